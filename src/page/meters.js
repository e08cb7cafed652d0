// Level meters with a scale, peak hold, and clipping in words.

import { $, attribute, label, make, write } from './dom.js';
import { words } from './words.js';

const FLOOR = -60;
// In dB for each event.
const FALL = 2.4;
const HOLD_MS = 1500;
const TICKS = [-60, -48, -36, -24, -12, -6, 0];
const COLOURS = { track: '#211f29', tick: '#3b3846', peak: '#245c44', good: '#43c384', high: '#e8b23a', hot: '#ff6252' };

const share = (db) => Math.max(0, Math.min(1, 1 - db / FLOOR));

export class Meters {
	#list;
	#rows = [];
	#clippedAt = null;

	constructor(list) {
		this.#list = list;
		new ResizeObserver(() => this.#rows.forEach(fit)).observe(list);
		$('clear').onclick = () => {
			for (const row of this.#rows) row.forgiven = row.clipped;
			this.#tellClips();
		};
	}

	// Shows `[[peak, rms, clipped], …]` in dBFS.
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
			if (clipped > row.clipped) this.#clippedAt = new Date();
			row.clipped = clipped;
			if (!draw) return;
			drawBar(row);
			this.#write(row);
		});
		if (draw) this.#tellClips();
	}

	// True while meters are shown.
	get some() {
		return this.#rows.length > 0;
	}

	clear() {
		if (this.some) this.#build(0);
	}

	#build(channels) {
		this.#rows = Array.from({ length: channels }, (_, c) => {
			const name = words.channel(c, channels);
			const title = make('span', { className: 'channel', textContent: name });
			const canvas = make('canvas', { role: 'meter' });
			const value = make('span', { className: 'value' });
			label(canvas, words.meter(name));
			attribute(canvas, 'aria-valuemin', FLOOR);
			attribute(canvas, 'aria-valuemax', 0);
			return { name, item: make('li', {}, title, canvas, value), canvas, value, peak: -200, rms: -200, hold: -200, held: 0, clipped: 0 };
		});
		// Near full scale there is no room for all of them.
		const marks = TICKS.filter((db) => db !== -6).map((db) => {
			const mark = make('span', { textContent: `${db}`.replace('-', '−') });
			mark.style.left = `${100 * share(db)}%`;
			return mark;
		});
		const scale = make('li', { className: 'scale', ariaHidden: 'true' }, make('span', {}, ...marks), make('span', { textContent: 'dBFS' }));
		this.#list.classList.toggle('many', channels > 2);
		this.#list.replaceChildren(...this.#rows.map(({ item }) => item), ...(channels > 0 ? [scale] : []));
		this.#rows.forEach(fit);
		this.#tellClips();
	}

	#write({ canvas, value, hold, clipped, forgiven }) {
		const text = words.decibels(hold);
		value.classList.toggle('clipped', clipped > forgiven);
		if (value.textContent === text) return;
		value.textContent = text;
		attribute(canvas, 'aria-valuenow', Math.round(Math.max(FLOOR, Math.min(0, hold))));
		attribute(canvas, 'aria-valuetext', text);
	}

	#tellClips() {
		const clipped = this.#rows.filter((row) => row.clipped > row.forgiven);
		$('clip').hidden = clipped.length === 0;
		for (const row of this.#rows) row.value.classList.toggle('clipped', clipped.includes(row));
		if (clipped.length === 0) return;
		const count = clipped.reduce((sum, row) => sum + row.clipped - row.forgiven, 0);
		write($('clipped'), words.clipped(clipped.map(({ name }) => name).join(', '), count, (this.#clippedAt ?? new Date()).toLocaleTimeString()));
	}
}

function drawBar(row) {
	const { canvas, peak, rms, hold } = row;
	const { width, height } = canvas;
	// Unchanged bars need no drawing.
	const look = [peak, rms, hold].map((db) => Math.round(share(db) * width)).join();
	if (look === row.look) return;
	row.look = look;
	const pen = canvas.getContext('2d');
	const part = (from, to, colour, inset = 0) => {
		pen.fillStyle = colour;
		pen.fillRect(from * width, inset, Math.max(0, to - from) * width, height - 2 * inset);
	};
	part(0, 1, COLOURS.track);
	for (const db of TICKS) part(share(db), share(db) + 1 / width, COLOURS.tick);
	part(0, share(peak), COLOURS.peak, Math.round(height / 4));
	part(0, Math.min(share(rms), share(-12)), COLOURS.good);
	part(share(-12), Math.min(share(rms), share(-3)), COLOURS.high);
	part(share(-3), share(rms), COLOURS.hot);
	const at = Math.min(share(hold), 1 - 3 / width);
	if (at > 0) part(at, at + 3 / width, COLOURS[hold > -3 ? 'hot' : hold > -12 ? 'high' : 'good']);
}

function fit(row) {
	const { canvas } = row;
	const scale = Math.min(2, devicePixelRatio);
	canvas.width = Math.round(canvas.clientWidth * scale);
	canvas.height = Math.round(canvas.clientHeight * scale);
	row.look = '';
	drawBar(row);
}
