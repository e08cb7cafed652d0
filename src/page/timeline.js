// The kept sound as a place: peaks, selection and positions, in frames of the stream. A pure module.

// In seconds: what is selected if nobody selects, and the shortest selection.
const [USUAL, LEAST] = [60, 0.5];

export class Timeline {
	stream = 0;
	rate = 0;
	// The frame after the last one that was captured.
	edge = 0;
	history = 0;
	#step = 1;
	#peaks = new Map();
	#chosen = null;

	// Takes the answer of `/NAME/history`.
	load({ stream, rate, step_frames: step, first, peaks }) {
		if (stream !== this.stream) this.clear();
		// Events that came since then are newer.
		const newer = [...this.#peaks].filter(([n]) => n >= first + peaks.length);
		[this.stream, this.rate, this.#step] = [stream, rate, step || 1];
		this.#peaks = new Map([...peaks.map((peak, i) => [first + i, peak ?? -200]), ...newer]);
		this.edge = Math.max(this.edge, (first + peaks.length - 1) * step || 0);
	}

	add(stream, frame, peak) {
		if (!this.rate || stream !== this.stream || frame < this.edge) return;
		const last = Math.floor(frame / this.#step);
		// After a pause of the page, only the end is known.
		for (let n = Math.max(Math.floor(this.edge / this.#step), last - 3); n <= last; n++) {
			this.#peaks.set(n, Math.max(peak ?? -200, this.#peaks.get(n) ?? -200));
		}
		this.edge = frame + 1;
		for (const n of this.#peaks.keys()) {
			if ((n + 1) * this.#step > this.start) break;
			this.#peaks.delete(n);
		}
	}

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

	ago(frame) {
		return this.rate ? (this.edge - frame) / this.rate : 0;
	}

	frameAgo(seconds) {
		return Math.round(this.edge - seconds * this.rate);
	}

	// Places are between the start, 0, and the edge, 1.
	place(frame) {
		return this.history && this.rate ? Math.min(1, Math.max(0, 1 - this.ago(frame) / this.history)) : 1;
	}

	frameAt(place) {
		return this.frameAgo((1 - Math.min(1, Math.max(0, place))) * this.history);
	}

	// At most `count` bars, the oldest first. A bar keeps its frames while it moves.
	bars(count) {
		const frames = Math.max(1, Math.ceil(this.history * this.rate / this.#step / count)) * this.#step;
		const bars = new Map();
		for (const [n, peak] of this.#peaks) {
			const from = n * this.#step - n * this.#step % frames;
			bars.set(from, Math.max(peak, bars.get(from) ?? -200));
		}
		return [...bars].map(([from, peak]) => ({ from, to: from + frames, peak }));
	}

	select(from, to) {
		this.#chosen = { from: Math.min(from, to), to: Math.max(from, to) };
	}

	get selected() {
		// What is kept, not what could be.
		const oldest = Math.max(0, Math.ceil(this.start));
		const [kept, least] = [this.edge - oldest, LEAST * this.rate];
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

// The distance in seconds of the marks on an axis, of which `most` fit.
export function markEvery(seconds, most) {
	const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200];
	return steps.find((step) => seconds / step <= most) ?? 86_400;
}
