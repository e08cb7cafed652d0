// The last minute, from right to left: which pitches were there while Live plays; how loud it was otherwise, since
// then there are no samples here to look into.

const COLUMNS = 600;
const ROWS = 112;
const COLUMN_MS = 100;
const SIZE = 1024;
export const [LOWEST, HIGHEST] = [50, 20_000];
const [QUIET, LOUD] = [-100, -20];
/** From nothing over violet and orange to white. */
const STOPS = [[16, 16, 28], [58, 28, 96], [150, 40, 110], [232, 92, 66], [252, 178, 72], [255, 250, 220]];
const BACKGROUND = 'rgb(16 16 28)';
const LEVEL = 'rgb(126 140 190)';

const PALETTE = Uint8Array.from({ length: 256 * 3 }, (_, i) => {
  const place = Math.floor(i / 3) / 255 * (STOPS.length - 1);
  const stop = Math.min(STOPS.length - 2, Math.floor(place));
  const [a, b] = [STOPS[stop][i % 3], STOPS[stop + 1][i % 3]];
  return a + (b - a) * (place - stop);
});

export class Spectrogram {
  #pen;
  #column;
  /** The time up to which it is drawn. */
  #drawn = 0;
  #recent = new Float32Array(SIZE);
  #new = 0;
  #lastSound = -Infinity;
  #peak = -200;
  #window = Float32Array.from({ length: SIZE }, (_, i) => (1 - Math.cos(2 * Math.PI * i / SIZE)) / SIZE * 2);
  #turns = Array.from({ length: SIZE / 2 }, (_, i) => [Math.cos(2 * Math.PI * i / SIZE), -Math.sin(2 * Math.PI * i / SIZE)]);
  #real = new Float32Array(SIZE);
  #imaginary = new Float32Array(SIZE);

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
    return performance.now() - this.#lastSound < 1000;
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
    this.#lastSound = performance.now();
    const length = piece[0].length;
    const count = Math.min(length, SIZE);
    this.#recent.copyWithin(0, count);
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (const samples of piece) sum += samples[length - count + i];
      this.#recent[SIZE - count + i] = sum / piece.length;
    }
    this.#new += length;
    if (this.#new < rate * COLUMN_MS / 1000 || !this.#scroll()) return;
    this.#new = 0;
    this.#peak = -200;
    this.#transform();
    const pixels = this.#column.data;
    for (let row = 0; row < ROWS; row++) {
      const hertz = (place) => HIGHEST * (LOWEST / HIGHEST) ** (place / ROWS);
      const [low, high] = [hertz(row + 1) * SIZE / rate, hertz(row) * SIZE / rate];
      let most = 0;
      for (let bin = Math.floor(low); bin <= Math.max(Math.floor(low), Math.ceil(high) - 1) && bin < SIZE / 2; bin++) {
        most = Math.max(most, this.#real[bin] ** 2 + this.#imaginary[bin] ** 2);
      }
      const shade = (10 * Math.log10(most + 1e-12) - QUIET) / (LOUD - QUIET);
      const colour = 3 * Math.round(255 * Math.max(0, Math.min(1, shade)));
      for (let i = 0; i < 3; i++) pixels[4 * row + i] = PALETTE[colour + i];
      pixels[4 * row + 3] = 255;
    }
    this.#pen.putImageData(this.#column, COLUMNS - 1, 0);
  }

  /** Makes room for a column when one is due; of a time in which nothing came, as much as it was. */
  #scroll() {
    const due = Math.floor((performance.now() - this.#drawn) / COLUMN_MS);
    if (due < 1) return false;
    this.#drawn += due * COLUMN_MS;
    const by = Math.min(due, COLUMNS);
    this.#pen.drawImage(this.#pen.canvas, -by, 0);
    this.#pen.fillStyle = BACKGROUND;
    this.#pen.fillRect(COLUMNS - by, 0, by, ROWS);
    return true;
  }

  /** Fourier's transform of the last samples, by halves. */
  #transform() {
    const [re, im] = [this.#real, this.#imaginary];
    for (let i = 0, j = 0; i < SIZE; i++) {
      re[j] = this.#recent[i] * this.#window[i];
      im[j] = 0;
      let bit = SIZE >> 1;
      while (j & bit) {
        j ^= bit;
        bit >>= 1;
      }
      j |= bit;
    }
    for (let half = 1; half < SIZE; half *= 2) {
      for (let k = 0; k < half; k++) {
        const [c, s] = this.#turns[k * (SIZE / 2 / half)];
        for (let a = k; a < SIZE; a += 2 * half) {
          const b = a + half;
          const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
          [re[b], im[b]] = [re[a] - x, im[a] - y];
          [re[a], im[a]] = [re[a] + x, im[a] + y];
        }
      }
    }
  }
}
