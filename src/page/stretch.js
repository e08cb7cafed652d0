// Time-stretching: a tape of sound that waits, from which similar parts are taken out, or repeated, without a seam (overlap and add,
// as in WSOLA and NetEQ). What ends too early is heard again backwards.

// In seconds: what stays behind the head, the shortest and longest part, the length of a seam, and of what is compared.
const [KEPT, SHORTEST, LONGEST, SEAM, COMPARED] = [0.1, 0.003, 0.02, 0.006, 0.01];
// Mean square below which all sound is alike: -70 dBFS.
const SILENCE = 1e-7;
// The first look takes every fourth sample and place.
const COARSE = 4;

export class Tape {
	#channels;
	#rate;
	#head = 0;
	#end = 0;
	// At a seam the tape is not whole.
	#whole = 0;
	#missed = 0;
	#gain = 0;

	constructor(rate, channels) {
		this.#rate = rate;
		this.#channels = Array.from({ length: channels }, () => new Float32Array(rate));
	}

	get length() {
		return this.#end - this.#head;
	}

	push(piece) {
		const count = piece[0].length;
		if (this.#end + count > this.#channels[0].length) this.#rewind(count);
		this.#channels.forEach((samples, c) => samples.set(piece[c], this.#end));
		this.#end += count;
	}

	take(count) {
		this.#head += count;
		return this.#channels.map((samples) => samples.slice(this.#head - count, this.#head));
	}

	forget() {
		this.#head = this.#end;
	}

	// After silence.
	fadeIn() {
		this.#blend(() => 0);
		this.#missed = 0;
	}

	// Takes out up to `most` frames where the sound before is as similar to that after as `alike` (1: equal). Returns their number.
	shorten(most, alike, least = this.#frames(SHORTEST)) {
		most = Math.min(most, this.length - this.#frames(COMPARED));
		return most < least ? 0 : this.#jump(least, most, alike);
	}

	// Takes out `count` frames, or a little less for a better seam.
	skip(count) {
		return this.shorten(count, -1, Math.max(1, count - this.#frames(LONGEST)));
	}

	// Repeats up to `most` frames.
	lengthen(most, alike) {
		const [least, longest] = [this.#frames(SHORTEST), Math.min(most, this.#frames(LONGEST), this.#head - this.#whole)];
		return longest < least || this.length < this.#frames(COMPARED) ? 0 : -this.#jump(-longest, -least, alike);
	}

	// Instead of missing sound, `from` to `to` times as loud.
	missing(count, [from, to]) {
		const begin = this.#missed;
		this.#missed += count;
		this.#gain = to;
		return this.#channels.map((samples) => Float32Array.from({ length: count }, (_, i) => (
			this.#backwards(samples, begin + i) * (from + (to - from) * i / count)
		)));
	}

	// Goes over to what came. Returns false if that is not enough yet.
	returns() {
		if (this.#missed === 0) return true;
		if (this.length < this.#frames(SEAM)) return false;
		this.#blend((samples, i) => this.#backwards(samples, this.#missed + i) * this.#gain);
		this.#missed = 0;
		return true;
	}

	#frames(seconds) {
		return Math.round(seconds * this.#rate);
	}

	// What is before the head, back to its last seam and forth again.
	#backwards(samples, i) {
		const span = Math.max(1, this.#head - this.#whole);
		const at = i % (2 * span);
		return samples[this.#head - 1 - Math.min(at, 2 * span - 1 - at)] || 0;
	}

	#rewind(count) {
		const from = Math.max(0, this.#head - this.#frames(KEPT));
		const used = this.#end - from;
		this.#channels = this.#channels.map((samples) => {
			const moved = used + count > samples.length ? new Float32Array(2 * (used + count)) : samples;
			moved.set(samples.subarray(from, this.#end));
			return moved;
		});
		[this.#head, this.#end, this.#whole] = [this.#head - from, used, Math.max(0, this.#whole - from)];
	}

	// Goes over from other sound to what is at the head.
	#blend(other) {
		const [head, seam] = [this.#head, Math.min(this.#frames(SEAM), this.length)];
		for (const samples of this.#channels) {
			const before = Float32Array.from({ length: seam }, (_, i) => other(samples, i));
			before.forEach((old, i) => { samples[head + i] = old + (samples[head + i] - old) * (i + 0.5) / seam; });
		}
		this.#whole = head;
	}

	// Moves the head by the lag at which the sound is most similar. Returns the lag; 0 if it is less similar than `alike`.
	#jump(least, most, alike) {
		let best = { lag: least, fit: -1 };
		const look = (from, to, step) => {
			for (let lag = from; lag <= to; lag += step) {
				const fit = this.#alike(lag, step);
				if (fit > best.fit) best = { lag, fit };
			}
		};
		look(least, most, COARSE);
		const { lag: near } = best;
		best.fit = -1;
		look(Math.max(least, near - COARSE), Math.min(most, near + COARSE), 1);
		const { lag, fit } = best;
		if (fit < alike) return 0;
		this.#head += lag;
		this.#blend((samples, i) => samples[this.#head - lag + i]);
		return lag;
	}

	// The correlation of the sound at the head and that far from it, of all channels together.
	#alike(lag, step) {
		const length = this.#frames(COMPARED);
		let [both, left, right] = [0, 0, 0];
		for (const samples of this.#channels) {
			for (let i = this.#head; i < this.#head + length; i += step) {
				const [x, y] = [samples[i], samples[i + lag]];
				both += x * y;
				left += x * x;
				right += y * y;
			}
		}
		const silence = SILENCE * length / step;
		return left < silence && right < silence ? 1 : both / Math.sqrt(left * right || 1);
	}
}
