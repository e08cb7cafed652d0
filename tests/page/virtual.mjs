// The page's jitter buffer in virtual time: arrival times, the page's own player with a device that takes sound by the clock, and an
// oracle.

import { readFileSync } from 'node:fs';

import { Jitter } from '../../src/page/jitter.js';
import { Output, make } from '../../src/page/output.js';
import { AIRS, Chance } from '../browser/support/air.mjs';

/** The length of a block of the stream in seconds. */
const BLOCK = 0.01;
/** The sample rate: a low one, so that minutes take a second. */
export const RATE = 8000;
const FRAMES = RATE * BLOCK;
/** What a device takes at a time, as at 48 kHz; and the most by which the page's thread is late. */
const QUANTUM = 128 / 48_000;
const BUSY = 0.004;
/** As in live.js: the growth of what the player needs, and the time at the start that says nothing. */
const MORE = 0.006;
const SETTLES = 0.2;

/** Returns the arrival time of each block in seconds. See record.mjs. */
export function trace(name) {
  const text = readFileSync(new URL(`traces/${name}.txt`, import.meta.url), 'latin1');
  const arrivals = [];
  let now = 0;
  for (const character of text.replace(/\s/g, '')) {
    now += Number.parseInt(character, 36);
    if (character !== 'z') arrivals.push(now / 1000);
  }
  return arrivals;
}

/** Returns the arrival times over an air as air.mjs would have made them with that seed. */
export function model(kind, seed, seconds) {
  const { delay, jitter, stalls } = AIRS[kind];
  const chance = new Chance(seed * 7919);
  const silences = stalls.flatMap(({ every, length }) => {
    const all = [];
    for (let at = chance.exponential(every); at < seconds * 1000; at += chance.exponential(every)) all.push([at, at + chance.between(length)]);
    return all;
  }).sort(([a], [b]) => a - b);
  let [due, through, next, silentUntil] = [0, 0, 0, 0];
  return Array.from({ length: seconds / BLOCK }, (_, i) => {
    due = Math.max(due, i * BLOCK * 1000 + delay + chance.exponential(jitter));
    through = Math.max(through, due);
    for (; next < silences.length && silences[next][0] <= Math.max(through, silentUntil); next++) silentUntil = Math.max(silentUntil, silences[next][1]);
    through = Math.max(through, silentUntil);
    return through / 1000;
  });
}

/** Returns how much later than the quickest block each block came, in seconds. */
export function lateness(arrivals) {
  const late = arrivals.map((at, i) => at - i * BLOCK);
  const quickest = Math.min(...late);
  return late.map((at) => at - quickest);
}

/**
 * Returns the smallest constant delay in seconds with which no more than `gaps` gaps would have been heard. A gap is a row of
 * blocks that come too late. One that is longer counts once for each quarter of a second.
 */
export function oracle(arrivals, gaps) {
  const late = lateness(arrivals);
  const heard = (delay) => {
    let [count, row] = [0, 0];
    for (const at of late) {
      row = at > delay ? row + BLOCK : 0;
      if (row > 0 && (row - BLOCK) % 0.25 < BLOCK / 2) count++;
    }
    return count;
  };
  const delays = [...late].sort((a, b) => a - b);
  let [low, high] = [-1, delays.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (heard(delays[middle]) <= gaps) high = middle;
    else low = middle;
  }
  return delays[high];
}

/** Sound whose parts resemble each other, as speech and music do: three tones and some noise. */
function sound(i) {
  const t = i / RATE;
  const noise = Math.sin(i * i * 0.7);
  return 0.3 * Math.sin(2 * Math.PI * 220 * t) + 0.2 * Math.sin(2 * Math.PI * 331 * t) + 0.1 * Math.sin(2 * Math.PI * 97 * t) + 0.01 * noise;
}

/** A device in virtual time, with what of Web Audio the page's player uses. */
class Device {
  now = 0;
  timers = [];
  sources = [];
  sampleRate = RATE;

  get currentTime() {
    return Math.floor(this.now / QUANTUM) * QUANTUM;
  }

  createBuffer(channels, length) {
    const samples = new Float32Array(length);
    return { samples, copyToChannel: (from, _, at = 0) => samples.set(from, at) };
  }

  createBufferSource() {
    const source = {
      connect() {},
      start: (time) => this.sources.push(Object.assign(source, { begin: Math.max(time, this.currentTime), end: Infinity })),
      stop: (time) => { source.end = time; },
    };
    return source;
  }

  /** Returns all that was heard. */
  recording(seconds) {
    const out = new Float32Array(Math.ceil(seconds * RATE));
    for (const { begin, end, buffer: { samples } } of this.sources) {
      const from = Math.round(begin * RATE);
      const count = Math.min(samples.length, Math.round(end * RATE) - from, out.length - from);
      for (let i = 0; i < count; i++) out[from + i] += samples[i];
    }
    return out;
  }
}

let device = new Device();
globalThis.document ??= { hidden: false };
// The player's context is made once.
globalThis.AudioContext = function () {
  return new Proxy({}, { get: (_, name) => (typeof device[name] === 'function' ? device[name].bind(device) : device[name]) });
};
make();

/**
 * Plays blocks that come at these times. Returns how far the player was behind the quickest block, and its target, at each
 * time in seconds; the times of the gaps; and the sound as it was played.
 */
export function play(arrivals) {
  device = new Device();
  const chance = new Chance(1);
  const own = { performance: globalThis.performance, setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  Object.assign(globalThis, {
    performance: { now: () => device.now * 1000 },
    setTimeout: (act, ms) => {
      const timer = { at: device.now + ms / 1000 + chance.next() * BUSY, act };
      device.timers.push(timer);
      return timer;
    },
    clearTimeout: (timer) => { device.timers = device.timers.filter((other) => other !== timer); },
  });
  try {
    return run(arrivals, chance);
  } finally {
    Object.assign(globalThis, own);
  }
}

function run(arrivals, chance) {
  const output = new Output(RATE, 1, false, null);
  const jitter = new Jitter(output.least);
  const quickest = arrivals[0] - lateness(arrivals)[0];
  const result = { behind: [], gaps: [], narrowAt: null, unexplained: 0 };
  let [next, begins, busy] = [0, null, arrivals[0]];
  for (let look = BLOCK; next < arrivals.length;) {
    const timer = device.timers.reduce((first, timer) => (timer.at < (first?.at ?? Infinity) ? timer : first), null);
    device.now = Math.max(device.now, Math.min(busy, timer?.at ?? Infinity, look));
    if (timer && timer.at <= device.now) {
      device.timers = device.timers.filter((other) => other !== timer);
      timer.act();
    } else if (busy <= device.now) {
      const { now } = device;
      begins ??= now;
      const late = jitter.came(now, next * BLOCK, now > begins + SETTLES);
      output.push([Float32Array.from({ length: FRAMES }, (_, i) => sound(next * FRAMES + i))], late, jitter.target);
      if (output.unexplained > result.unexplained) jitter.least += MORE;
      result.unexplained = output.unexplained;
      if (jitter.narrow) result.narrowAt ??= now;
      next++;
      busy = Math.max(now, arrivals[next] + chance.next() * BUSY / 4);
    } else {
      look += BLOCK;
      if (!output.waits) result.behind.push({ at: device.now, seconds: device.now - output.heard / RATE - quickest, target: jitter.target });
    }
    while (result.gaps.length < output.gaps) result.gaps.push(device.now);
  }
  result.played = device.recording(device.now);
  result.stretched = output.stretched / RATE;
  return result;
}

export function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}
