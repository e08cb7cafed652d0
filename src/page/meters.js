// Level meters with a scale, peak hold, and clipping in words.

import { $, attribute, label, make, mark, write } from './dom.js';
import { clock, decibels, number, words } from './words.js';

const FLOOR = -60;
// In dB for each event.
const FALL = 2.4;
const HOLD_MS = 1500;
const TICKS = [-60, -48, -36, -24, -12, 0];

const share = (db) => Math.max(0, Math.min(1, 1 - db / FLOOR));

export class Meters {
	#rows = [];
	#clippedAt = 0;

	constructor() {
		$('clear').onclick = () => {
			for (const row of this.#rows) row.forgiven = row.clipped;
			this.#tellClips();
			$('play').focus();
		};
	}

	// Takes `[[peak, rms, clipped], …]` in dBFS.
	show(levels, draw) {
		if (levels.length !== this.#rows.length) {
			this.#build(levels.length);
			draw = true;
		}
		const now = performance.now();
		levels.forEach(([peak, rms, clipped], c) => {
			const row = this.#rows[c];
			row.peak = Math.max(peak ?? -200, row.peak - FALL);
			row.rms = Math.max(rms ?? -200, row.rms - FALL);
			if (row.peak >= row.hold || now - row.held > HOLD_MS) [row.hold, row.held] = [row.peak, now];
			// A new stream counts from zero.
			if (!(row.forgiven <= clipped)) row.forgiven = clipped;
			if (clipped > row.clipped) this.#clippedAt = Date.now();
			row.clipped = clipped;
			if (!draw) return;
			const [bar, colours, line] = row.track.children;
			bar.style.transform = `scaleX(${share(row.peak).toFixed(3)})`;
			colours.style.clipPath = `inset(0 ${(100 - 100 * share(row.rms)).toFixed(1)}% 0 0)`;
			line.style.transform = `translateX(${(99.5 * share(row.hold)).toFixed(1)}%)`;
			const text = decibels(row.hold);
			write(row.value, text);
			attribute(row.track, 'aria-valuenow', Math.round(Math.max(FLOOR, Math.min(0, row.hold))));
			attribute(row.track, 'aria-valuetext', text);
		});
		if (draw) this.#tellClips();
	}

	clear() {
		if (this.#rows.length > 0) this.#build(0);
	}

	#build(channels) {
		this.#rows = Array.from({ length: channels }, (_, c) => {
			const name = channels < 3 ? words.channels[channels - 1 + c] : `${c + 1}`;
			const [track, value] = [make('span', { className: 'track', role: 'meter' }, make('i'), make('i'), make('i')), make('span', { className: 'value' })];
			label(track, words.meter(name));
			attribute(track, 'aria-valuemin', FLOOR);
			attribute(track, 'aria-valuemax', 0);
			const item = make('li', {}, make('span', { className: 'channel', textContent: name }), track, value);
			return { name, item, track, value, peak: -200, rms: -200, hold: -200, held: 0, clipped: 0 };
		});
		const marks = TICKS.map((db) => mark(number(db), share(db)));
		const scale = make('li', { className: 'scale', ariaHidden: 'true' }, make('span', {}, ...marks), make('span', { textContent: 'dBFS' }));
		$('meters').classList.toggle('many', channels > 2);
		$('meters').replaceChildren(...this.#rows.map(({ item }) => item), ...(channels > 0 ? [scale] : []));
		this.#tellClips();
	}

	#tellClips() {
		const clipped = this.#rows.filter((row) => row.clipped > row.forgiven);
		$('clip').hidden = clipped.length === 0;
		for (const row of this.#rows) row.value.classList.toggle('clipped', clipped.includes(row));
		if (clipped.length > 0) write($('clipped'), words.clipped(clipped.map(({ name }) => name).join(', '), clock(this.#clippedAt || Date.now())));
	}
}
