// The spectrogram of the last minute of what is heard.

import { $, fill, kept, mark, options, write } from './dom.js';
import { decibels, number, words } from './words.js';

const SECONDS = 60;
const COLUMN_MS = 100;
const [COLUMNS, ROWS] = [SECONDS * 1000 / COLUMN_MS, 240];
const [LOWEST, NONE] = [50, -200];
// In dB: all is white from here on, and black up to here.
const LOUD = -28;
const FLOORS = [-100, -85, -70];
const TOPS = [20_000, 12_000, 8000, 4000];
// The share of the height at which a frequency lies between the ends, and back.
const SCALES = {
	log: [Math.log, Math.exp],
	mel: [(f) => Math.log(1 + f / 700), (m) => 700 * (Math.exp(m) - 1)],
	linear: [(f) => f, (f) => f],
};
const MARKS = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
const LINEAR_MARKS = [1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 15_000, 20_000];

// From black over violet and orange to near white.
const PALETTE = Uint8ClampedArray.from({ length: 4 * 256 }, (_, i) => {
	const s = (i >> 2) / 255;
	return [12 + 243 * s ** 0.8, 11 + 225 * s ** 2.2, 18 + 115 * Math.sin(Math.PI * s) + 170 * s ** 8, 255][i & 3];
});

const hertzText = (hertz, digits) => (hertz < 1000 ? `${Math.round(hertz)} Hz` : `${number(hertz / 1000, digits)} kHz`);

export class Spectrogram {
	#pen = $('pitches').getContext('2d', { alpha: false });
	#column;
	#drawn = 0;
	// The level of each row of each column, in a circle.
	#levels = new Float32Array(COLUMNS * ROWS);
	#next = 0;

	constructor() {
		const { canvas } = this.#pen;
		[canvas.width, canvas.height] = [COLUMNS, ROWS];
		this.#column = this.#pen.createImageData(1, ROWS);
		const choice = (id, all, changed) => {
			const select = $(id);
			select.append(...options(all));
			if (all.some(([value]) => `${value}` === kept(id))) select.value = kept(id);
			select.onchange = () => {
				kept(id, select.value);
				changed();
			};
		};
		choice('scale', Object.keys(SCALES).map((scale) => [scale, scale]), () => this.clear());
		choice('top', TOPS.map((hertz) => [hertz, hertzText(hertz)]), () => this.clear());
		choice('floor', FLOORS.map((db) => [db, `${number(db)} dB`]), () => {
			for (let i = 0; i < COLUMNS; i++) this.#paint(i, 1);
		});
		$('picture').onpointermove = (event) => this.#point(event);
		$('picture').onpointerleave = () => write($('point'), '');
		$('fullscreen').onclick = () => this.full();
		$('fullscreen').hidden = !document.fullscreenEnabled;
		this.clear();
	}

	full() {
		if (document.fullscreenElement) document.exitFullscreen();
		else if (!$('spectrum').hidden) $('spectrum').requestFullscreen?.().catch(() => {});
	}

	clear() {
		this.#levels.fill(NONE);
		this.#drawn = performance.now();
		this.#pen.fillStyle = '#0c0b12';
		this.#pen.fillRect(0, 0, COLUMNS, ROWS);
		const scale = $('scale').value;
		const [low, high] = this.#ends();
		const all = (scale === 'linear' ? LINEAR_MARKS : MARKS).filter((hertz) => hertz <= $('top').value);
		$('hertz').replaceChildren(...all.map((hertz) => mark(hertzText(hertz), (SCALES[scale][0](hertz) - low) / (high - low), 'bottom')));
		fill($('seconds'), 'all', () => [60, 50, 40, 30, 20, 10, 0].map((s) => mark(s ? `−${s} s` : words.now, 1 - s / SECONDS)));
	}

	// Draws what is due. `sound` has levels in dB and the place of a frequency among them; without it the picture moves on.
	draw(sound) {
		const due = Math.min(COLUMNS, Math.floor((performance.now() - this.#drawn) / COLUMN_MS));
		if (due < 1) return;
		this.#drawn = Math.max(this.#drawn + due * COLUMN_MS, performance.now() - COLUMN_MS);
		this.#pen.drawImage(this.#pen.canvas, -due, 0);
		for (let i = 0; i < due; i++) {
			this.#levels.fill(NONE, this.#next * ROWS, (this.#next + 1) * ROWS);
			this.#next = (this.#next + 1) % COLUMNS;
		}
		const first = (this.#next + COLUMNS - 1) % COLUMNS * ROWS;
		for (let row = 0; sound && row < ROWS; row++) {
			const [from, to] = [row + 1, row].map((edge) => sound.place(this.#hertz(1 - edge / ROWS)));
			this.#levels[first + row] = Math.max(NONE, strongest(sound.levels, from, to)) || NONE;
		}
		this.#pen.fillRect(COLUMNS - due, 0, due, ROWS);
		// A pause is filled with what came at its end, if it is short.
		if (sound) this.#paint(COLUMNS - 1, Math.min(due, 3));
	}

	#paint(place, count) {
		const [column, floor] = [(this.#next + place) % COLUMNS * ROWS, Number($('floor').value)];
		for (let row = 0; row < ROWS; row++) {
			const shade = Math.round(255 * Math.max(0, Math.min(1, (this.#levels[column + row] - floor) / (LOUD - floor)))) || 0;
			this.#column.data.set(PALETTE.subarray(4 * shade, 4 * shade + 4), 4 * row);
		}
		for (let i = 0; i < count; i++) this.#pen.putImageData(this.#column, place - i, 0);
	}

	#ends() {
		const [to] = SCALES[$('scale').value];
		return [to($('scale').value === 'log' ? LOWEST : 0), to(Number($('top').value))];
	}

	#hertz(place) {
		const [low, high] = this.#ends();
		return SCALES[$('scale').value][1](low + place * (high - low));
	}

	#point({ clientX, clientY }) {
		const { left, top, width, height } = this.#pen.canvas.getBoundingClientRect();
		const [x, y] = [(clientX - left) / width, (clientY - top) / height];
		if (x < 0 || x >= 1 || y < 0 || y >= 1) return write($('point'), '');
		const db = this.#levels[(this.#next + Math.floor(x * COLUMNS)) % COLUMNS * ROWS + Math.floor(y * ROWS)];
		write($('point'), `−${number(SECONDS * (1 - x), 1)} s · ${hertzText(this.#hertz(1 - y), 2)} · ${decibels(db)} dB`);
	}
}

// The strongest of the levels between two places, or what is between the two nearest.
function strongest(levels, from, to) {
	let [db, low] = [NONE, Math.floor(from)];
	if (to - from < 1) return levels[low] + ((levels[low + 1] ?? NONE) - levels[low]) * (from - low);
	for (; low < to; low++) db = Math.max(db, levels[low] ?? NONE);
	return db;
}
