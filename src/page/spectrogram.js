// The spectrogram of the last minute: what is heard, from the browser's own analyser.

import { $, fill, kept, make, write } from './dom.js';
import { words } from './words.js';

const SECONDS = 60;
const COLUMN_MS = 100;
const [COLUMNS, ROWS] = [SECONDS * 1000 / COLUMN_MS, 240];
const LOWEST = 50;
const TOPS = [20_000, 12_000, 8000, 4000];
// Levels in dB of black and white.
const [QUIET, LOUD] = [-100, -28];
const BACKGROUND = '#0c0b12';

const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
// For each scale, the share of the height at which a frequency lies between the ends, and back.
const SCALES = {
	log: [Math.log, Math.exp],
	mel: [mel, (m) => 700 * (10 ** (m / 2595) - 1)],
	linear: [(f) => f, (f) => f],
};
const MARKS = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
const LINEAR_MARKS = [1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 15_000, 20_000];

// From black over violet and orange to near white.
const PALETTE = Uint8ClampedArray.from({ length: 4 * 256 }, (_, i) => {
	const s = (i >> 2) / 255;
	return [12 + 243 * s ** 0.8, 11 + 225 * s ** 2.2, 18 + 115 * Math.sin(Math.PI * s) + 170 * s ** 8, 255][i & 3];
});

export class Spectrogram {
	#pen;
	#column;
	#drawn = 0;
	#analyser = null;
	#bins;
	#rows;
	// The level of each row of each column, as it was measured, in a circle.
	#levels = new Float32Array(COLUMNS * ROWS).fill(-200);
	#next = 0;
	#scale = Object.hasOwn(SCALES, kept('scale')) ? kept('scale') : 'log';
	#top = TOPS.includes(Number(kept('top'))) ? Number(kept('top')) : TOPS[0];

	constructor(canvas) {
		[canvas.width, canvas.height] = [COLUMNS, ROWS];
		this.#pen = canvas.getContext('2d', { alpha: false });
		this.#column = this.#pen.createImageData(1, ROWS);
		const choice = (id, values, texts, chosen, take) => {
			$(id).append(...values.map((value, i) => make('option', { value, textContent: texts[i] })));
			$(id).value = chosen;
			$(id).onchange = () => {
				take($(id).value);
				kept(id, $(id).value);
				this.clear();
			};
		};
		choice('scale', Object.keys(SCALES), Object.values(words.scales), this.#scale, (value) => { this.#scale = value; });
		choice('top', TOPS, TOPS.map((hertz) => `${hertz / 1000} kHz`), this.#top, (value) => { this.#top = Number(value); });
		const field = $('picture');
		field.onpointermove = (event) => this.#point(event);
		field.onpointerleave = () => write($('point'), '');
		$('fullscreen').onclick = () => this.full();
		$('fullscreen').hidden = !document.fullscreenEnabled;
		this.clear();
	}

	full() {
		if (document.fullscreenElement) document.exitFullscreen();
		else if (!$('spectrum').hidden) $('spectrum').requestFullscreen?.().catch(() => {});
	}

	clear() {
		this.#pen.fillStyle = BACKGROUND;
		this.#pen.fillRect(0, 0, COLUMNS, ROWS);
		this.#levels.fill(-200);
		[this.#drawn, this.#rows] = [performance.now(), null];
		const marks = this.#scale === 'linear' ? LINEAR_MARKS : MARKS;
		fill($('hertz'), `${this.#scale} ${this.#top}`, () => marks.filter((hertz) => hertz <= this.#top).map((hertz) => {
			const mark = make('span', { textContent: hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz` });
			mark.style.bottom = `${100 * this.#place(hertz)}%`;
			return mark;
		}));
		fill($('seconds'), 'all', () => [60, 50, 40, 30, 20, 10, 0].map((s) => {
			const mark = make('span', { textContent: s ? `−${s} s` : words.now });
			mark.style.left = `${100 - 100 * s / SECONDS}%`;
			return mark;
		}));
	}

	// The analyser of the sound that is heard; null for none.
	hear(analyser) {
		if (analyser === this.#analyser) return;
		this.#analyser = analyser;
		this.#rows = null;
	}

	// Draws the columns that are due. Without sound the picture moves on.
	draw() {
		const due = Math.min(COLUMNS, Math.floor((performance.now() - this.#drawn) / COLUMN_MS));
		if (due < 1) return;
		this.#drawn += due * COLUMN_MS;
		if (performance.now() - this.#drawn > COLUMN_MS) this.#drawn = performance.now();
		this.#pen.drawImage(this.#pen.canvas, -due, 0);
		this.#pen.fillStyle = BACKGROUND;
		this.#pen.fillRect(COLUMNS - due, 0, due, ROWS);
		for (let i = 0; i < due; i++) {
			this.#levels.fill(-200, this.#next * ROWS, (this.#next + 1) * ROWS);
			this.#next = (this.#next + 1) % COLUMNS;
		}
		if (!this.#analyser) return;
		this.#rows ??= this.#lines();
		this.#analyser.getFloatFrequencyData(this.#bins);
		const column = (this.#next + COLUMNS - 1) % COLUMNS;
		this.#rows.forEach(([from, to], row) => {
			let db = -200;
			// The strongest of the bins in the row, or between the two nearest.
			if (to - from < 1) {
				const [low, part] = [Math.floor(from), from % 1];
				db = this.#bins[low] * (1 - part) + (this.#bins[low + 1] ?? -200) * part;
			} else for (let bin = Math.floor(from); bin < to; bin++) db = Math.max(db, this.#bins[bin] ?? -200);
			this.#levels[column * ROWS + row] = db;
			const shade = Math.round(255 * Math.max(0, Math.min(1, (db - QUIET) / (LOUD - QUIET)))) || 0;
			this.#column.data.set(PALETTE.subarray(4 * shade, 4 * shade + 4), 4 * row);
		});
		// A pause is filled with what came at its end, if it is short.
		for (let i = 1; i <= Math.min(due, 3); i++) this.#pen.putImageData(this.#column, COLUMNS - i, 0);
	}

	// The bins of each row, from the top.
	#lines() {
		const { frequencyBinCount: count, context: { sampleRate } } = this.#analyser;
		this.#bins = new Float32Array(count);
		const bin = (row) => Math.min(count - 1, this.#hertz(1 - row / ROWS) / (sampleRate / 2) * count);
		return Array.from({ length: ROWS }, (_, row) => [bin(row + 1), bin(row)]);
	}

	#ends() {
		const [to] = SCALES[this.#scale];
		return [to(this.#scale === 'log' ? LOWEST : 0), to(this.#top)];
	}

	#place(hertz) {
		const [low, high] = this.#ends();
		return (SCALES[this.#scale][0](hertz) - low) / (high - low);
	}

	#hertz(place) {
		const [low, high] = this.#ends();
		return SCALES[this.#scale][1](low + place * (high - low));
	}

	#point({ clientX, clientY }) {
		const { left, top, width, height } = this.#pen.canvas.getBoundingClientRect();
		const [x, y] = [(clientX - left) / width, (clientY - top) / height];
		if (x < 0 || x >= 1 || y < 0 || y >= 1) return write($('point'), '');
		const db = this.#levels[(this.#next + Math.floor(x * COLUMNS)) % COLUMNS * ROWS + Math.floor(y * ROWS)];
		write($('point'), words.pointed(SECONDS * (1 - x), this.#hertz(1 - y), `${words.decibels(db)} dB`));
	}
}
