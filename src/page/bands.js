// What the spectrogram shows of the browser's own player, whose sound the page does not see: levels of bands, which the server
// measures ten times a second.

import { at } from './address.js';

// How many columns should be there in advance, and how many may be kept.
const PAUSE_MS = 500;
const [AHEAD, KEPT] = [10, 100];
// Of the bands, which are equally wide on a logarithmic scale. A character is a level in dB.
const [LOWEST, HIGHEST] = [50, 20_000];
const LEVEL = (character) => character.charCodeAt(0) - 135;

export class Bands {
	#columns = new Map();
	#stream = 0;
	#rests = false;

	// For a frame of a stream; null if that is not known. Asks for what is missing.
	at(input, { stream, rate }, frame) {
		if (stream !== this.#stream || this.#columns.size > KEPT) this.#columns.clear();
		this.#stream = stream;
		const now = Math.floor(frame / rate * 10);
		let next = now;
		while (this.#columns.has(next)) next++;
		if (next < now + AHEAD && !this.#rests && rate) this.#ask(input, stream, next);
		const levels = this.#columns.get(now);
		return levels ? { levels, place: (hertz) => Math.max(0, Math.log(hertz / LOWEST) / Math.log(HIGHEST / LOWEST) * levels.length) } : null;
	}

	async #ask(input, stream, from) {
		this.#rests = true;
		setTimeout(() => { this.#rests = false; }, PAUSE_MS);
		const answer = await fetch(at(`${input}/bands?stream=${stream}&from=${from}`), { cache: 'no-store' }).catch(() => null);
		const columns = answer?.ok ? await answer.json().catch(() => []) : [];
		if (stream === this.#stream) columns.forEach((column, i) => this.#columns.set(from + i, [...column].map(LEVEL)));
	}
}
