// The last minute: pitches during Live, and loudness without local samples.

const [COLUMNS, ROWS] = [300, 112];
const COLUMN_MS = 200;
const SIZE = 4096;
export const [LOWEST, HIGHEST] = [50, 20_000];
// Number of waves of each pitch to analyse, as far as they fit.
const WAVES = 24;
const [QUIET, LOUD] = [-90, -20];
const [BACKGROUND, LEVEL] = ['#10101c', '#7e8cbe'];
// From black over violet and orange to near white.
const colour = (s) => [16 + 239 * s ** 0.8, 16 + 220 * s ** 2.2, 28 + 110 * Math.sin(Math.PI * s) + 170 * s ** 8, 255];

export class Spectrogram {
	#pen;
	#column;
	// Time of the last column, and of the last sound.
	#drawn = 0;
	#heard = -Infinity;
	#peak = -200;
	#recent = new Float32Array(SIZE);
	#rate = 0;
	#waves;

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

	// True while pitches are drawn.
	get hears() {
		return performance.now() - this.#heard < 1000;
	}

	// Draws the server's levels, `[[peak, …], …]`.
	level(levels, draw) {
		this.#peak = Math.max(this.#peak, ...levels.map(([peak]) => peak ?? -200));
		const due = draw && !this.hears && this.#scroll();
		if (!due) return;
		const width = Math.min(due, 3);
		const half = Math.max(0.5, ROWS / 2 * Math.max(0, 1 + this.#peak / 60));
		this.#peak = -200;
		this.#pen.fillStyle = LEVEL;
		this.#pen.fillRect(COLUMNS - width, ROWS / 2 - half, width, 2 * half);
	}

	// Draws sound, a Float32Array for each channel.
	sound(piece, rate) {
		this.#heard = performance.now();
		if (rate !== this.#rate) [this.#rate, this.#waves] = [rate, waves(rate)];
		const skipped = Math.max(0, piece[0].length - SIZE);
		const count = piece[0].length - skipped;
		this.#recent.copyWithin(0, count);
		for (let i = 0; i < count; i++) {
			this.#recent[SIZE - count + i] = piece.reduce((sum, samples) => sum + samples[skipped + i], 0) / piece.length;
		}
		if (!this.#scroll()) return;
		this.#waves.forEach(([cosine, sine], row) => {
			let [re, im] = [1e-9, 0];
			for (let i = 0, at = SIZE - cosine.length; i < cosine.length; i++, at++) {
				re += this.#recent[at] * cosine[i];
				im += this.#recent[at] * sine[i];
			}
			const shade = (20 * Math.log10(Math.hypot(re, im)) - QUIET) / (LOUD - QUIET);
			this.#column.data.set(colour(Math.max(0, Math.min(1, shade))), 4 * row);
		});
		this.#pen.putImageData(this.#column, COLUMNS - 1, 0);
	}

	// Scrolls when a column is due; after a pause without data, by its length.
	#scroll() {
		const due = Math.floor((performance.now() - this.#drawn) / COLUMN_MS);
		if (due < 1) return 0;
		this.#drawn += due * COLUMN_MS;
		this.#pen.drawImage(this.#pen.canvas, -due, 0);
		this.#pen.fillStyle = BACKGROUND;
		this.#pen.fillRect(COLUMNS - due, 0, due, ROWS);
		return due;
	}
}

// The reference of each row: its pitch under Hann's window. A full-scale sine has magnitude 1.
function waves(rate) {
	return Array.from({ length: ROWS }, (_, row) => {
		const hertz = HIGHEST * (LOWEST / HIGHEST) ** (row / ROWS);
		const length = hertz < rate / 2 ? Math.min(SIZE, Math.round(WAVES * rate / hertz)) : 0;
		return [Math.cos, Math.sin].map((wave) => Float32Array.from({ length }, (_, i) => (
			(1 - Math.cos(2 * Math.PI * i / length)) * 2 / length * wave(2 * Math.PI * hertz * i / rate)
		)));
	});
}
