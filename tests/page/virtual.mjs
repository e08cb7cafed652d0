// The page's jitter buffer in virtual time: traces of arrival times, a player that takes sound by the clock, and an oracle.

import { readFileSync } from 'node:fs';

import { Jitter } from '../../src/page/jitter.js';
import { Playout } from '../../src/page/playout.js';

/** The length of a block of the stream in seconds, and what the device takes at a time. */
const BLOCK = 0.01;
/** The sample rate: a low one, so that minutes take a second. */
export const RATE = 8000;
const FRAMES = RATE * BLOCK;
/** What the player of the page needs, as on the audio thread. */
const LEAST = 0.022;

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

/**
 * Plays blocks that come at these times. Returns how far the player was behind the quickest block, and its target, at each
 * time in seconds; the times of the gaps; and the sound as it was played.
 */
export function play(arrivals) {
  const [jitter, playout] = [new Jitter(LEAST), new Playout(RATE, RATE, 1)];
  const quickest = arrivals[0] - lateness(arrivals)[0];
  const result = { behind: [], gaps: [], played: [], narrowAt: null, stretched: 0 };
  let [next, ready] = [0, []];
  const length = () => ready.reduce((sum, piece) => sum + piece.length, 0);
  // The device's clock does not run in step with the blocks.
  for (let now = BLOCK / 3; next < arrivals.length; now += BLOCK) {
    for (; next < arrivals.length && arrivals[next] <= now; next++) {
      const late = jitter.came(arrivals[next], next * BLOCK);
      playout.push([Float32Array.from({ length: FRAMES }, (_, i) => sound(next * FRAMES + i))], late, jitter.target, 0);
      if (jitter.narrow) result.narrowAt ??= now;
    }
    while (length() < FRAMES) {
      const piece = playout.give(BLOCK, 0, true);
      if (!piece) break;
      ready.push(piece[0]);
    }
    const out = new Float32Array(FRAMES);
    for (let done = 0; done < FRAMES && ready.length > 0;) {
      const part = ready[0].subarray(0, FRAMES - done);
      out.set(part, done);
      done += part.length;
      if (part.length === ready[0].length) ready.shift();
      else ready[0] = ready[0].subarray(part.length);
    }
    result.played.push(out);
    while (result.gaps.length < playout.gaps) result.gaps.push(now);
    if (playout.waits) continue;
    const position = (playout.frame - length()) / RATE;
    result.behind.push({ at: now, seconds: now - position - quickest, target: jitter.target });
  }
  result.stretched = playout.stretched / RATE;
  return result;
}

export function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}
