// Time-stretching: a tape of sound that waits to be played, from which similar parts are taken out, or repeated, without a
// seam. What ends too early goes on in a loop of its last part (overlap and add, as in WSOLA and NetEQ).

// In seconds: what stays behind the head to be repeated, the shortest and longest part, the length of a seam, and of the
// sound that is compared.
const KEPT = 0.05;
const SHORTEST = 0.003;
const LONGEST = 0.02;
const SEAM = 0.006;
const COMPARED = 0.01;
// Mean square below which all sound is alike: -70 dBFS.
const SILENCE = 1e-7;
// The first look at the similarity takes every fourth sample and every fourth place.
const COARSE = 4;

export class Tape {
	#channels;
	#rate;
	#head = 0;
	#end = 0;
	#size;
	// From here on the tape is whole: at each seam it is not.
	#whole = 0;
	// The loop that follows the end, and the position in it.
	#loop = null;
	// Frames since the sound began to fade in.
	#rise = Infinity;

	constructor(rate, channels) {
		this.#rate = rate;
		this.#size = rate;
		this.#channels = Array.from({ length: channels }, () => new Float32Array(this.#size));
	}

	// Frames that wait to be played.
	get length() {
		return this.#end - this.#head;
	}

	push(piece) {
		const count = piece[0].length;
		if (this.#end + count > this.#size) this.#rewind(count);
		this.#channels.forEach((samples, c) => samples.set(piece[c], this.#end));
		this.#end += count;
	}

	// The next frames.
	take(count) {
		const from = this.#head;
		this.#head += count;
		const piece = this.#channels.map((samples) => samples.slice(from, this.#head));
		const seam = this.#frames(SEAM);
		if (this.#rise < seam) {
			for (const samples of piece) {
				for (let i = 0; i < count && this.#rise + i < seam; i++) samples[i] *= (this.#rise + i + 0.5) / seam;
			}
			this.#rise += count;
		}
		return piece;
	}

	// Lets frames out as they are.
	forget(count) {
		this.#head += count;
	}

	// Lets what comes next fade in from silence.
	fadeIn() {
		this.#rise = 0;
		this.#whole = this.#head;
	}

	// Takes out up to `most` frames where the sound before is as similar to the sound after as `alike` (1: equal). Returns
	// the number of frames.
	shorten(most, alike, least = this.#frames(SHORTEST)) {
		const [seam, longest] = [this.#frames(SEAM), Math.min(most, this.length - this.#frames(COMPARED))];
		if (longest < least) return 0;
		const { lag, fit } = this.#search(this.#head, least, longest);
		if (fit < alike) return 0;
		this.#head += lag;
		this.#blend(this.#head, -lag, seam);
		return lag;
	}

	// Takes out `count` frames, or a little less for a better seam.
	skip(count) {
		const least = Math.max(1, count - this.#frames(LONGEST));
		return this.shorten(count, -1, least);
	}

	// Repeats up to `most` frames. Returns the number of frames.
	lengthen(most, alike) {
		const [seam, longest] = [this.#frames(SEAM), Math.min(most, this.#frames(LONGEST), this.#head - this.#whole)];
		const least = this.#frames(SHORTEST);
		if (longest < least || this.length < this.#frames(COMPARED)) return 0;
		const { lag, fit } = this.#search(this.#head, -longest, -least);
		if (fit < alike) return 0;
		this.#head += lag;
		this.#blend(this.#head, -lag, seam);
		return -lag;
	}

	// What may follow where sound is missing: its last part again, `gain` times as loud at the beginning and at the end.
	missing(count, [from, to]) {
		this.#loop ??= this.#begin();
		if (this.#loop) this.#loop.gain = to;
		return this.#around(this.#loop, count).map((samples) => samples.map((sample, i) => sample * (from + (to - from) * i / count)));
	}

	// Goes over from what is heard instead of missing sound to what came. Returns false if that is not enough yet.
	returns() {
		if (!this.#loop) return true;
		const seam = this.#frames(SEAM);
		if (this.length < seam) return false;
		const { gain } = this.#loop;
		const old = this.#around(this.#loop, seam);
		this.#each((samples, c) => {
			for (let i = 0; i < seam; i++) {
				const before = old[c][i] * gain;
				samples[this.#head + i] = before + (samples[this.#head + i] - before) * (i + 0.5) / seam;
			}
		});
		this.#whole = this.#head;
		this.#loop = null;
		return true;
	}

	// The loop is left in silence.
	silent() {
		this.#loop = null;
	}

	#frames(seconds) {
		return Math.round(seconds * this.#rate);
	}

	#each(act) {
		this.#channels.forEach(act);
	}

	// Makes room at the end.
	#rewind(count) {
		const from = Math.max(0, this.#head - this.#frames(KEPT));
		const used = this.#end - from;
		if (used + count > this.#size) this.#size = 2 * (used + count);
		this.#channels = this.#channels.map((samples) => {
			const moved = samples.length < this.#size ? new Float32Array(this.#size) : samples;
			moved.set(samples.subarray(from, this.#end));
			return moved;
		});
		[this.#head, this.#end, this.#whole] = [this.#head - from, used, Math.max(0, this.#whole - from)];
	}

	// Blends what is `offset` before or after `at` into what is at `at`.
	#blend(at, offset, seam) {
		const from = Math.min(seam, this.#end - at, this.#end - at - offset);
		this.#each((samples) => {
			for (let i = 0; i < from; i++) {
				const [old, now] = [samples[at + offset + i], samples[at + i]];
				samples[at + i] = old + (now - old) * (i + 0.5) / from;
			}
		});
		this.#whole = at;
	}

	// The lag between `least` and `most` at which the sound is most similar to the sound at `at`, and how similar it is.
	#search(at, least, most) {
		const length = this.#frames(COMPARED);
		let best = { lag: least, fit: -1 };
		const look = (from, to, step) => {
			for (let lag = from; lag <= to; lag += step) {
				const fit = this.#alike(at, at + lag, length, step);
				if (fit > best.fit) best = { lag, fit };
			}
		};
		look(least, most, COARSE);
		const { lag } = best;
		best.fit = -1;
		look(Math.max(least, lag - COARSE), Math.min(most, lag + COARSE), 1);
		return best;
	}

	// The correlation of two parts, of all channels together.
	#alike(a, b, length, step) {
		let [both, left, right] = [0, 0, 0];
		this.#each((samples) => {
			for (let i = 0; i < length; i += step) {
				const [x, y] = [samples[a + i], samples[b + i]];
				both += x * y;
				left += x * x;
				right += y * y;
			}
		});
		const silence = SILENCE * length / step;
		if (left < silence && right < silence) return 1;
		return both / Math.sqrt(left * right || 1);
	}

	// The loop from which the end is heard again.
	#begin() {
		const length = this.#frames(COMPARED);
		const longest = Math.min(this.#frames(LONGEST), this.#end - length, this.#end - this.#whole);
		const least = Math.min(this.#frames(SHORTEST), longest);
		if (least < 1) return null;
		const { lag } = this.#search(this.#end - length, -longest, -least);
		const from = this.#end + lag;
		return {
			at: 0,
			length: -lag,
			parts: this.#channels.map((samples) => samples.slice(from, this.#end)),
			// The step from the end of the loop to its beginning, which each round takes back.
			steps: this.#channels.map((samples) => samples[this.#end - 1] - samples[Math.max(0, from - 1)]),
		};
	}

	// The next frames of the loop.
	#around(loop, count) {
		if (!loop) return this.#channels.map(() => new Float32Array(count));
		const begin = loop.at;
		loop.at += count;
		return loop.parts.map((samples, c) => Float32Array.from({ length: count }, (_, i) => {
			const at = (begin + i) % loop.length;
			return samples[at] + loop.steps[c] * (1 - at / loop.length);
		}));
	}
}
