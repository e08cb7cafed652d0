// Sound as bytes and as numbers: takes a WAV stream apart, and changes its rate.

/** Reads a WAV stream as it comes. */
export class WavReader {
  /** { rate, channels, bits } once the header has come. */
  format = null;
  #rest = new Uint8Array(0);

  /** Takes in bytes; returns the whole frames among them as one Float32Array for each channel, or null. */
  push(bytes) {
    if (this.#rest.length > 0) {
      const all = new Uint8Array(this.#rest.length + bytes.length);
      all.set(this.#rest);
      all.set(bytes, this.#rest.length);
      bytes = all;
    }
    let at = 0;
    if (!this.format) {
      if (bytes.length < 44) return this.#keep(bytes, null);
      const header = new DataView(bytes.buffer, bytes.byteOffset, 44);
      if (header.getUint32(0) !== 0x52494646) throw new Error('not a WAV stream');
      this.format = {
        rate: header.getUint32(24, true),
        channels: header.getUint16(22, true),
        bits: header.getUint16(34, true),
      };
      at = 44;
    }
    const frame = this.format.channels * this.format.bits / 8;
    const frames = Math.floor((bytes.length - at) / frame);
    const end = at + frames * frame;
    const whole = frames > 0 ? decode(bytes.subarray(at, end), this.format) : null;
    return this.#keep(bytes.subarray(end), whole);
  }

  #keep(rest, result) {
    this.#rest = rest.slice();
    return result;
  }
}

function decode(bytes, { channels, bits }) {
  const width = bits / 8;
  const frames = bytes.length / width / channels;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const step = width * channels;
  return Array.from({ length: channels }, (_, c) => {
    const out = new Float32Array(frames);
    let at = c * width;
    for (let i = 0; i < frames; i++, at += step) {
      if (bits === 16) out[i] = view.getInt16(at, true) / 0x8000;
      else if (bits === 32) out[i] = view.getInt32(at, true) / 0x80000000;
      else out[i] = (view.getUint16(at, true) / 0x100 + view.getInt8(at + 2) * 0x100) / 0x8000;
    }
    return out;
  });
}

// A windowed sinc in steps of 1/256 of a sample, between which it is interpolated: what it adds to the sound lies
// below the last bit of 16.
const HALF = 16;
const TAPS = 2 * HALF;
const STEPS = 256;

function kernel(cutoff) {
  const table = new Float32Array((STEPS + 1) * TAPS);
  for (let step = 0; step <= STEPS; step++) {
    let sum = 0;
    for (let tap = 0; tap < TAPS; tap++) {
      const x = tap - HALF + 1 - step / STEPS;
      const sinc = x === 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
      // Blackman and Harris' window, 92 dB.
      const w = 2 * Math.PI * (x + HALF) / TAPS;
      const window = 0.35875 - 0.48829 * Math.cos(w) + 0.14128 * Math.cos(2 * w) - 0.01168 * Math.cos(3 * w);
      sum += table[step * TAPS + tap] = sinc * window;
    }
    for (let tap = 0; tap < TAPS; tap++) table[step * TAPS + tap] /= sum;
  }
  return table;
}

/** Changes the rate, with a phase that goes on from piece to piece. */
export class Resampler {
  /** How many input frames the output so far stands for. */
  consumed = 0;
  #at = 0;
  #step;
  #table;
  #kept;
  #taps = new Float32Array(TAPS);

  constructor(from, to, channels) {
    this.#step = from / to;
    this.#table = kernel(Math.min(1, to / from) * 0.94);
    this.#kept = Array.from({ length: channels }, () => new Float32Array(TAPS - 1));
  }

  /** Resamples a piece, `faster` times faster than the rates say: 1.001 plays it in a thousandth less time. */
  push(piece, faster = 1) {
    const input = piece.map((samples, c) => {
      const all = new Float32Array(this.#kept[c].length + samples.length);
      all.set(this.#kept[c]);
      all.set(samples, this.#kept[c].length);
      return all;
    });
    const step = this.#step * faster;
    const last = input[0].length - TAPS;
    const count = Math.max(0, Math.floor((last - this.#at) / step) + 1);
    const output = input.map(() => new Float32Array(count));
    const [table, taps] = [this.#table, this.#taps];
    let at = this.#at;
    for (let i = 0; i < count; i++, at += step) {
      const whole = Math.floor(at);
      const phase = (at - whole) * STEPS;
      const row = Math.floor(phase);
      const between = phase - row;
      for (let t = 0, a = row * TAPS; t < TAPS; t++, a++) taps[t] = table[a] + (table[a + TAPS] - table[a]) * between;
      for (let c = 0; c < input.length; c++) {
        const samples = input[c];
        let sum = 0;
        for (let t = 0; t < TAPS; t++) sum += taps[t] * samples[whole + t];
        output[c][i] = sum;
      }
    }
    const used = Math.min(Math.floor(at), input[0].length);
    this.consumed += at - this.#at;
    this.#at = at - used;
    this.#kept = input.map((samples) => samples.slice(used));
    return output;
  }
}
