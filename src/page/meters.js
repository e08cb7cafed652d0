// Level meters: what the server measured, with peak hold and clip lamps.

import { channelName, texts } from './texts.js';

const FLOOR = -60;
/** How fast what is shown falls, in dB for each event, of which there are 20 a second. */
const FALL = 1.2;
const HOLD_MS = 1500;
const TICKS = [-48, -36, -24, -12, -6];

const share = (db) => Math.max(0, Math.min(1, 1 - db / FLOOR));

export class Meters {
  #list;
  #rows = [];
  #colours = {};
  #events = 0;

  constructor(list) {
    this.#list = list;
    this.#restyle();
    matchMedia('(prefers-color-scheme: dark)').addEventListener?.('change', () => this.#restyle());
    if (globalThis.ResizeObserver) new ResizeObserver(() => this.#rows.forEach(fit)).observe(list);
  }

  /** Shows `[[peak, rms, clipped], …]` in dBFS. */
  show(levels) {
    if (levels.length !== this.#rows.length) this.#build(levels.length);
    const now = performance.now();
    const words = this.#events++ % 5 === 0;
    levels.forEach(([peak, rms, clipped], c) => {
      const row = this.#rows[c];
      row.peak = Math.max(peak ?? -200, row.peak - FALL);
      row.rms = Math.max(rms ?? -200, row.rms - FALL);
      if (row.peak >= row.hold || now - row.held > HOLD_MS) [row.hold, row.held] = [row.peak, now];
      // A stream that began anew counts from zero.
      if (row.clipped === null || clipped < row.clipped) row.clipped = clipped;
      this.#draw(row);
      if (words) this.#write(row, clipped);
    });
  }

  /** Nothing is known. */
  clear() {
    this.#build(0);
  }

  #build(channels) {
    this.#rows = Array.from({ length: channels }, (_, c) => {
      const name = channelName(c, channels);
      const item = document.createElement('li');
      const label = Object.assign(document.createElement('span'), { className: 'channel', textContent: name });
      const canvas = document.createElement('canvas');
      canvas.setAttribute('role', 'meter');
      canvas.setAttribute('aria-label', texts.meter(name));
      canvas.setAttribute('aria-valuemin', FLOOR);
      canvas.setAttribute('aria-valuemax', 0);
      canvas.setAttribute('aria-valuenow', FLOOR);
      const value = Object.assign(document.createElement('span'), { className: 'decibels' });
      const lamp = Object.assign(document.createElement('button'), { className: 'lamp', type: 'button' });
      item.append(label, canvas, value, lamp);
      const row = { name, canvas, value, lamp, peak: -200, rms: -200, hold: -200, held: 0, clipped: null, seen: 0 };
      lamp.addEventListener('click', () => {
        row.clipped = row.seen;
        this.#write(row, row.seen);
      });
      return row;
    });
    this.#list.replaceChildren(...this.#rows.map((row) => row.canvas.parentElement));
    this.#rows.forEach(fit);
  }

  #write(row, clipped) {
    row.seen = clipped;
    const text = texts.decibels(row.hold <= -150 ? null : row.hold);
    if (row.value.textContent !== text) {
      row.value.textContent = text;
      row.canvas.setAttribute('aria-valuenow', Math.round(Math.max(FLOOR, Math.min(0, row.hold))));
      row.canvas.setAttribute('aria-valuetext', text);
    }
    const count = clipped - row.clipped;
    const label = texts.clipped(row.name, count);
    if (row.lamp.title !== label) {
      row.lamp.title = label;
      row.lamp.setAttribute('aria-label', label);
      row.lamp.classList.toggle('lit', count > 0);
    }
  }

  #draw({ canvas, peak, rms, hold }) {
    const { width, height } = canvas;
    const pen = canvas.getContext('2d');
    const { track, quiet, good, high, hot, tick } = this.#colours;
    const part = (from, to, colour, top, bottom) => {
      if (to <= from) return;
      pen.fillStyle = colour;
      pen.fillRect(from * width, top, (to - from) * width, bottom - top);
    };
    pen.clearRect(0, 0, width, height);
    part(0, 1, track, 0, height);
    for (const db of TICKS) part(share(db), share(db) + 1 / width, tick, 0, height);
    const inset = Math.round(height / 4);
    part(0, share(peak), quiet, inset, height - inset);
    part(0, Math.min(share(rms), share(-12)), good, 0, height);
    part(share(-12), Math.min(share(rms), share(-3)), high, 0, height);
    part(share(-3), share(rms), hot, 0, height);
    if (hold > FLOOR) {
      const at = Math.min(share(hold), 1 - 3 / width);
      part(at, at + 3 / width, hold > -3 ? hot : hold > -12 ? high : good, 0, height);
    }
  }

  #restyle() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['track', 'quiet', 'good', 'high', 'hot', 'tick']) {
      this.#colours[name] = style.getPropertyValue(`--meter-${name}`).trim();
    }
  }
}

function fit({ canvas }) {
  const scale = Math.min(2, devicePixelRatio || 1);
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (width > 0 && (canvas.width !== width || canvas.height !== height)) [canvas.width, canvas.height] = [width, height];
}
