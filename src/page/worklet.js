// The audio-thread player.

import { Playout } from './playout.js';

// Sound that is prepared at a time.
const CHUNK = 0.01;

class Player extends AudioWorkletProcessor {
	#playout;
	#rate;
	// Samples for the device, the first of them used already up to the offset, and their number.
	#pieces = [];
	#offset = 0;
	#ready = 0;
	#told = 0;
	#over = false;

	constructor({ processorOptions: { rate, channels, back } }) {
		super();
		this.#rate = rate;
		this.#playout = new Playout(rate, sampleRate, channels, back);
		this.port.onmessage = ({ data }) => {
			if (data) this.#playout.push(data.piece, data.late, data.target, this.#ready / sampleRate);
			else this.#over = true;
		};
	}

	process(_, [output]) {
		const frames = output[0].length;
		while (this.#ready < frames) {
			const piece = this.#playout.give(CHUNK, this.#ready / sampleRate, true);
			if (!piece) break;
			this.#pieces.push(piece);
			this.#ready += piece[0].length;
		}
		for (let done = 0; done < frames && this.#pieces.length > 0;) {
			const [piece] = this.#pieces;
			const count = Math.min(frames - done, piece[0].length - this.#offset);
			output.forEach((channel, c) => channel.set(piece[c].subarray(this.#offset, this.#offset + count), done));
			done += count;
			this.#offset += count;
			this.#ready -= count;
			if (this.#offset === piece[0].length) {
				this.#pieces.shift();
				this.#offset = 0;
			}
		}
		if (currentFrame - this.#told >= sampleRate / 20) this.#tell((currentFrame + frames) / sampleRate);
		return !this.#over;
	}

	// Reports which frame will be given out at `time`.
	#tell(time) {
		this.#told = currentFrame;
		const { gaps, unexplained, stretched, frame } = this.#playout;
		this.port.postMessage({ time, gaps, unexplained, stretched, frame: frame - this.#ready / sampleRate * this.#rate });
	}
}

registerProcessor('player', Player);
