// The kept sound as a place: peaks, selection and positions, in frames of the stream. A pure module.

// Length in seconds of the selection that nobody has made.
const USUAL = 60;
// The shortest selection in seconds.
const LEAST = 0.5;

export class Timeline {
	// Of the stream; 0 while there is none.
	stream = 0;
	rate = 0;
	// The frame after the last one that was captured.
	edge = 0;
	// Kept length in seconds.
	history = 0;
	#step = 1;
	#peaks = new Map();
	#chosen = null;

	// Takes the answer of `/NAME/history`.
	load({ stream, rate, step_frames: step, first, peaks }) {
		if (stream !== this.stream) [this.edge, this.#chosen] = [0, null];
		// Events that came since then are newer.
		const newer = stream === this.stream ? [...this.#peaks].filter(([n]) => n >= first + peaks.length) : [];
		[this.stream, this.rate, this.#step] = [stream, rate, step || 1];
		this.#peaks = new Map([...peaks.map((peak, i) => [first + i, peak ?? -200]), ...newer]);
		this.edge = Math.max(this.edge, (first + peaks.length - 1) * step || 0);
	}

	// Takes the peak (dBFS) of the time up to `frame`.
	add(stream, frame, peak) {
		if (!this.rate || stream !== this.stream || frame < this.edge) return;
		const last = Math.floor(frame / this.#step);
		// After a pause of the page, only the end is known.
		const first = Math.max(Math.floor(this.edge / this.#step), last - 3);
		for (let n = first; n <= last; n++) this.#peaks.set(n, Math.max(peak ?? -200, this.#peaks.get(n) ?? -200));
		this.edge = frame + 1;
		const oldest = Math.floor(this.start / this.#step);
		for (const n of this.#peaks.keys()) {
			if (n >= oldest) break;
			this.#peaks.delete(n);
		}
	}

	// The peak at a frame in dBFS; null if it is not known.
	peakAt(frame) {
		return this.#peaks.get(Math.floor(frame / this.#step)) ?? null;
	}

	clear() {
		[this.stream, this.rate, this.edge, this.#chosen, this.#peaks] = [0, 0, 0, null, new Map()];
	}

	// The first frame that is kept, or that would be if the stream was older.
	get start() {
		return this.edge - this.history * this.rate;
	}

	// Frames to seconds before the edge, and back.
	ago(frame) {
		return this.rate ? (this.edge - frame) / this.rate : 0;
	}

	frameAgo(seconds) {
		return Math.round(this.edge - seconds * this.rate);
	}

	// The place of a frame between the start, 0, and the edge, 1.
	place(frame) {
		return this.history && this.rate ? Math.min(1, Math.max(0, (frame - this.start) / (this.history * this.rate))) : 1;
	}

	frameAt(place) {
		return Math.round(this.start + Math.min(1, Math.max(0, place)) * this.history * this.rate);
	}

	// At most `count` bars of equal length from the oldest on: `{ from, to, peak }` in frames and dBFS. A bar keeps its
	// frames while it moves to the left.
	bars(count) {
		const steps = this.history * this.rate / this.#step;
		const group = Math.max(1, Math.ceil(steps / count));
		const bars = new Map();
		for (const [n, peak] of this.#peaks) {
			const at = Math.floor(n / group);
			bars.set(at, Math.max(peak, bars.get(at) ?? -200));
		}
		const frames = group * this.#step;
		return [...bars].map(([at, peak]) => ({ from: at * frames, to: (at + 1) * frames, peak }));
	}

	// Selects frames; the other way round too. The kept part of it counts.
	select(from, to) {
		this.#chosen = from < to ? { from, to } : { from: to, to: from };
	}

	// Selects the usual part again: the last minute, or all if less is kept.
	unselect() {
		this.#chosen = null;
	}

	// The selection: `{ from, to, seconds, usual }`; null if nothing is kept.
	get selected() {
		// What is kept, not what could be.
		const oldest = Math.max(0, Math.ceil(this.start));
		const kept = this.edge - oldest;
		const least = LEAST * this.rate;
		if (!this.rate || !this.history || kept < least) return null;
		if (!this.#chosen || this.#chosen.to < oldest + least) {
			const seconds = Math.min(USUAL, this.history, Math.max(1, Math.floor(kept / this.rate)));
			return { from: Math.max(oldest, this.frameAgo(seconds)), to: this.edge, seconds, usual: true };
		}
		const to = Math.min(this.edge, Math.max(this.#chosen.to, this.#chosen.from + least));
		const from = Math.min(Math.max(oldest, this.#chosen.from), to - least);
		return { from, to, seconds: (to - from) / this.rate, usual: false };
	}
}

// The distance in seconds of the marks on an axis of `seconds`, of which at most `most` fit.
export function markEvery(seconds, most) {
	const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];
	return steps.find((step) => seconds / step <= most) ?? steps.at(-1);
}
