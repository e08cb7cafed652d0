// Level meters of the server's levels, with peak hold and clip lamps.

import { channelName, texts } from './texts.js';

const FLOOR = -60;
// In dB for each event.
const FALL = 2.4;
const HOLD_MS = 1500;
const TICKS = [-48, -36, -24, -12, -6];

const share = (db) => Math.max(0, Math.min(1, 1 - db / FLOOR));
const label = (element, text) => element.setAttribute('aria-label', text);

export class Meters {
	#list;
	#rows = [];
	#colours;

	constructor(list) {
		this.#list = list;
		const restyle = () => {
			const style = getComputedStyle(list);
			const names = ['track', 'tick', 'peak', 'good', 'high', 'hot'];
			this.#colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
			for (const row of this.#rows) row.look = '';
		};
		restyle();
		matchMedia('(prefers-color-scheme: dark)').addEventListener('change', restyle);
		new ResizeObserver(() => this.#rows.forEach(fit)).observe(list);
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
			row.clipped = clipped;
			if (!draw) return;
			this.#draw(row);
			write(row);
		});
	}

	clear() {
		this.#build(0);
	}

	#build(channels) {
		this.#rows = Array.from({ length: channels }, (_, c) => {
			const name = channelName(c, channels);
			const [item, title, canvas, value, lamp] = ['li', 'span', 'canvas', 'span', 'button'].map((tag) => document.createElement(tag));
			title.textContent = name;
			canvas.setAttribute('role', 'meter');
			label(canvas, texts.meter(name));
			canvas.setAttribute('aria-valuemin', FLOOR);
			canvas.setAttribute('aria-valuemax', 0);
			lamp.className = 'lamp';
			item.append(title, canvas, value, lamp);
			const row = { name, item, canvas, value, lamp, peak: -200, rms: -200, hold: -200, held: 0 };
			lamp.onclick = () => {
				row.forgiven = row.clipped;
				write(row);
			};
			return row;
		});
		this.#list.replaceChildren(...this.#rows.map(({ item }) => item));
		this.#rows.forEach(fit);
	}

	#draw(row) {
		const { canvas, peak, rms, hold } = row;
		const { width, height } = canvas;
		// Unchanged bars need no drawing.
		const look = [peak, rms, hold].map((db) => Math.round(share(db) * width)).join();
		if (look === row.look) return;
		row.look = look;
		const pen = canvas.getContext('2d');
		const { track, tick, peak: light, good, high, hot } = this.#colours;
		const part = (from, to, colour, inset = 0) => {
			pen.fillStyle = colour;
			pen.fillRect(from * width, inset, Math.max(0, to - from) * width, height - 2 * inset);
		};
		part(0, 1, track);
		for (const db of TICKS) part(share(db), share(db) + 1 / width, tick);
		part(0, share(peak), light, Math.round(height / 4));
		part(0, Math.min(share(rms), share(-12)), good);
		part(share(-12), Math.min(share(rms), share(-3)), high);
		part(share(-3), share(rms), hot);
		const at = Math.min(share(hold), 1 - 3 / width);
		if (at > 0) part(at, at + 3 / width, hold > -3 ? hot : hold > -12 ? high : good);
	}
}

function write({ name, canvas, value, lamp, hold, clipped, forgiven }) {
	const text = texts.decibels(hold);
	if (value.textContent !== text) {
		value.textContent = text;
		canvas.setAttribute('aria-valuenow', Math.round(Math.max(FLOOR, Math.min(0, hold))));
		canvas.setAttribute('aria-valuetext', text);
	}
	const title = texts.clipped(name, clipped - forgiven);
	if (lamp.title === title) return;
	lamp.title = title;
	label(lamp, title);
	lamp.classList.toggle('lit', clipped > forgiven);
}

function fit(row) {
	const { canvas } = row;
	const scale = Math.min(2, devicePixelRatio);
	canvas.width = Math.round(canvas.clientWidth * scale);
	canvas.height = Math.round(canvas.clientHeight * scale);
	row.look = '';
}
