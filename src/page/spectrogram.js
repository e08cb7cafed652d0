// The last minute, from right to left: which pitches were there while Live plays; how loud it was otherwise, since
// then there are no samples here to look into.

const [COLUMNS, ROWS] = [300, 112];
const COLUMN_MS = 200;
const SIZE = 1024;
export const [LOWEST, HIGHEST] = [50, 20_000];
const [QUIET, LOUD] = [-100, -20];
/** From nothing over violet and orange to white. */
const STOPS = [[16, 16, 28], [58, 28, 96], [150, 40, 110], [232, 92, 66], [252, 178, 72], [255, 250, 220]];
const [BACKGROUND, LEVEL] = ['#10101c', '#7e8cbe'];

const PALETTE = Array.from({ length: 256 }, (_, i) => {
	const place = i / 255.01 * (STOPS.length - 1);
	const stop = Math.floor(place);
	return STOPS[stop].map((from, c) => from + (STOPS[stop + 1][c] - from) * (place - stop));
});

export class Spectrogram {
	#pen;
	#column;
	/** The time up to which it is drawn, and that of the last sound. */
	#drawn = 0;
	#heard = -Infinity;
	#peak = -200;
	#recent = new Float32Array(SIZE);
	#real = new Float32Array(SIZE);
	#imaginary = new Float32Array(SIZE);
	#turns = Array.from({ length: SIZE / 2 }, (_, i) => [Math.cos(2 * Math.PI * i / SIZE), -Math.sin(2 * Math.PI * i / SIZE)]);

	constructor(canvas) {
		[canvas.width, canvas.height] = [COLUMNS, ROWS];
		this.#pen = canvas.getContext('2d', { alpha: false });
		this.#column = this.#pen.createImageData(1, ROWS);
		this.clear();
	}

	clear() {
		this.#pen.fillStyle = BACKGROUND;
		this.#pen.fillRect(0, 0, COLUMNS, ROWS);
		this.#drawn = performance.now();
	}

	/** Whether what is drawn now are pitches. */
	get hears() {
		return performance.now() - this.#heard < 1000;
	}

	/** Takes in the server's levels, `[[peak, …], …]`. */
	level(levels) {
		this.#peak = Math.max(this.#peak, ...levels.map(([peak]) => peak ?? -200));
		if (this.hears || !this.#scroll()) return;
		const half = Math.max(0.5, ROWS / 2 * Math.max(0, 1 + this.#peak / 60));
		this.#peak = -200;
		this.#pen.fillStyle = LEVEL;
		this.#pen.fillRect(COLUMNS - 1, ROWS / 2 - half, 1, 2 * half);
	}

	/** Takes in sound, one Float32Array for each channel. */
	sound(piece, rate) {
		this.#heard = performance.now();
		const skipped = Math.max(0, piece[0].length - SIZE);
		const count = piece[0].length - skipped;
		this.#recent.copyWithin(0, count);
		for (let i = 0; i < count; i++) {
			this.#recent[SIZE - count + i] = piece.reduce((sum, samples) => sum + samples[skipped + i], 0) / piece.length;
		}
		if (!this.#scroll()) return;
		this.#transform();
		const hertz = (row) => HIGHEST * (LOWEST / HIGHEST) ** (row / ROWS);
		for (let row = 0; row < ROWS; row++) {
			const [low, high] = [Math.floor(hertz(row + 1) * SIZE / rate), Math.ceil(hertz(row) * SIZE / rate) - 1];
			let most = 1e-12;
			for (let bin = low; bin <= Math.max(low, high) && bin < SIZE / 2; bin++) {
				most = Math.max(most, this.#real[bin] ** 2 + this.#imaginary[bin] ** 2);
			}
			const shade = Math.max(0, Math.min(1, (10 * Math.log10(most) - QUIET) / (LOUD - QUIET)));
			this.#column.data.set([...PALETTE[Math.round(255 * shade)], 255], 4 * row);
		}
		this.#pen.putImageData(this.#column, COLUMNS - 1, 0);
	}

	/** Makes room for a column when one is due; of a time in which nothing came, as much as it was. */
	#scroll() {
		const due = Math.floor((performance.now() - this.#drawn) / COLUMN_MS);
		if (due < 1) return false;
		this.#drawn += due * COLUMN_MS;
		this.#pen.drawImage(this.#pen.canvas, -due, 0);
		this.#pen.fillStyle = BACKGROUND;
		this.#pen.fillRect(COLUMNS - due, 0, due, ROWS);
		return true;
	}

	/** Fourier's transform of the last samples under Hann's window, by halves; a full-scale sine has magnitude 1. */
	#transform() {
		const [re, im] = [this.#real, this.#imaginary];
		for (let i = 0, j = 0; i < SIZE; i++) {
			re[j] = this.#recent[i] * (1 - Math.cos(2 * Math.PI * i / SIZE)) * 2 / SIZE;
			im[j] = 0;
			let bit = SIZE >> 1;
			for (; j & bit; bit >>= 1) j ^= bit;
			j |= bit;
		}
		for (let half = 1; half < SIZE; half *= 2) {
			for (let k = 0; k < half; k++) {
				const [c, s] = this.#turns[k * SIZE / 2 / half];
				for (let a = k, b = a + half; a < SIZE; a += 2 * half, b += 2 * half) {
					const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
					[re[b], im[b]] = [re[a] - x, im[a] - y];
					[re[a], im[a]] = [re[a] + x, im[a] + y];
				}
			}
		}
	}
}
