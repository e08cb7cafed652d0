// An audio-thread player of queued samples.

class Player extends AudioWorkletProcessor {
	#pieces = [];
	#offset = 0;
	#queued = 0;
	#taken = 0;
	#starved = 0;
	// Frames to queue before the start, and after a dropout.
	#margin = 0;
	#waits = true;
	#told = 0;
	#over = false;

	constructor() {
		super();
		this.port.onmessage = ({ data }) => {
			if (!data) {
				this.#over = true;
				return;
			}
			const { piece, margin } = data;
			this.#pieces.push(piece);
			this.#queued += piece[0].length;
			this.#taken += piece[0].length;
			this.#margin = margin;
		};
	}

	process(_, [output]) {
		const frames = output[0].length;
		if (this.#queued > 0 && this.#queued >= this.#margin) this.#waits = false;
		let done = 0;
		while (!this.#waits && done < frames) {
			const piece = this.#pieces[0];
			if (!piece) {
				this.#waits = true;
				this.#starved++;
				break;
			}
			const count = Math.min(frames - done, piece[0].length - this.#offset);
			output.forEach((channel, c) => channel.set(piece[c].subarray(this.#offset, this.#offset + count), done));
			done += count;
			this.#offset += count;
			if (this.#offset === piece[0].length) {
				this.#pieces.shift();
				this.#offset = 0;
			}
		}
		this.#queued -= done;
		if (currentFrame - this.#told >= sampleRate / 20) {
			this.#told = currentFrame;
			const end = currentTime + (frames + this.#queued) / sampleRate;
			this.port.postMessage({ end, taken: this.#taken, starved: this.#starved, waits: this.#waits });
		}
		return !this.#over;
	}
}

registerProcessor('player', Player);
