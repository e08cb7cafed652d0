// Sound formats: parses a WAV stream, and changes its rate.

const HEADER = 44;

export function joined(a, b) {
	const all = new a.constructor(a.length + b.length);
	all.set(a);
	all.set(b, a.length);
	return all;
}

export class WavReader {
	// { rate, channels, bits } after the header.
	format = null;
	#rest = new Uint8Array(0);

	// The complete frames so far, an array for each channel; or null.
	push(bytes) {
		bytes = joined(this.#rest, bytes);
		const view = new DataView(bytes.buffer);
		let at = 0;
		if (!this.format && bytes.length >= HEADER) {
			this.format = { rate: view.getUint32(24, true), channels: view.getUint16(22, true), bits: view.getUint16(34, true) };
			at = HEADER;
		}
		const { channels, bits } = this.format ?? { channels: 1, bits: Infinity };
		const width = bits / 8;
		const frames = Math.floor((bytes.length - at) / width / channels);
		const end = at + (frames && frames * width * channels);
		this.#rest = bytes.slice(end);
		if (frames === 0) return null;
		return Array.from({ length: channels }, (_, c) => {
			const out = new Float32Array(frames);
			for (let i = 0, place = at + c * width; i < frames; i++, place += channels * width) {
				if (bits === 16) out[i] = view.getInt16(place, true) / 0x8000;
				else if (bits === 32) out[i] = view.getInt32(place, true) / 0x80000000;
				else out[i] = (view.getUint16(place, true) + view.getInt8(place + 2) * 0x10000) / 0x800000;
			}
			return out;
		});
	}
}

// A windowed sinc: the error of its steps is below the last of 16 bits.
const HALF = 16;
const TAPS = 2 * HALF;
const STEPS = 256;

function kernel(cutoff) {
	const table = new Float32Array((STEPS + 1) * TAPS);
	for (let step = 0; step <= STEPS; step++) {
		const row = table.subarray(step * TAPS, (step + 1) * TAPS);
		row.forEach((_, tap) => {
			const x = tap - HALF + 1 - step / STEPS;
			const w = 2 * Math.PI * (x + HALF) / TAPS;
			// Blackman-Harris window, 92 dB.
			const window = 0.35875 - 0.48829 * Math.cos(w) + 0.14128 * Math.cos(2 * w) - 0.01168 * Math.cos(3 * w);
			row[tap] = window * (x === 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x));
		});
		const sum = row.reduce((a, b) => a + b);
		row.forEach((value, tap) => { row[tap] = value / sum; });
	}
	return table;
}

// Changes the rate, with a phase that continues across pieces.
export class Resampler {
	#at = 0;
	#step;
	#table;
	#kept;
	#taps = new Float32Array(TAPS);

	constructor(from, to, channels) {
		this.#step = from / to;
		this.#table = kernel(Math.min(1, to / from) * 0.94);
		this.#kept = Array.from({ length: channels }, () => new Float32Array(TAPS - 1));
	}

	// Silence came before what comes next.
	clear() {
		for (const samples of this.#kept) samples.fill(0);
	}

	// `faster` times the nominal rate.
	push(piece, faster) {
		const input = piece.map((samples, c) => joined(this.#kept[c], samples));
		const step = this.#step * faster;
		const count = Math.max(0, Math.floor((input[0].length - TAPS - this.#at) / step) + 1);
		const output = input.map(() => new Float32Array(count));
		const [table, taps] = [this.#table, this.#taps];
		let at = this.#at;
		for (let i = 0; i < count; i++, at += step) {
			const whole = Math.floor(at);
			const phase = (at - whole) * STEPS;
			const between = phase % 1;
			for (let t = 0, a = Math.floor(phase) * TAPS; t < TAPS; t++, a++) taps[t] = table[a] + (table[a + TAPS] - table[a]) * between;
			input.forEach((samples, c) => {
				let sum = 0;
				for (let t = 0; t < TAPS; t++) sum += taps[t] * samples[whole + t];
				output[c][i] = sum;
			});
		}
		const used = Math.min(Math.floor(at), input[0].length);
		this.#at = at - used;
		this.#kept = input.map((samples) => samples.slice(used));
		return output;
	}
}
