// The jitter buffer against an oracle, on recorded arrival times. Needs no browser and no time.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Jitter } from '../../src/page/jitter.js';
import { median, model, oracle, play, trace } from './virtual.mjs';

/** In seconds: how far the median may be above the oracle's delay, and the time for learning. */
const ABOVE = 0.04;
const LEARNS = 20;

const played = new Map();
const playedOn = (air) => {
  if (!played.has(air)) played.set(air, play(trace(air)));
  return played.get(air);
};
const ms = (seconds) => `${Math.round(seconds * 1000)} ms`;

for (const air of ['good', 'home', 'far', 'narrow']) {
  test(`over the air “${air}” the delay is near that of the oracle`, (t) => {
    const arrivals = trace(air);
    const { behind, gaps, stretched } = playedOn(air);
    const minutes = arrivals.at(-1) / 60;
    const delay = median(behind.map(({ seconds }) => seconds));
    // With as many gaps, and with one a minute less.
    const [best, allowed] = [oracle(arrivals, gaps.length), oracle(arrivals, Math.max(0, gaps.length - Math.floor(minutes)))];
    const early = gaps.filter((at) => at < LEARNS).length;
    t.diagnostic(
      `${air}: ${ms(delay)} behind the quickest block, the oracle with as many gaps ${ms(best)}, with one a minute less ${ms(allowed)}; ` +
      `${early} gaps in the first ${LEARNS} s, ${gaps.length - early} in ${minutes.toFixed(1)} min; ` +
      `${(100 * stretched / arrivals.at(-1)).toFixed(2)} % stretched`,
    );
    assert.ok(delay <= best + ABOVE, `${ms(delay)}, the oracle ${ms(best)}`);
  });
}

test('the gaps are few: the first seconds are enough to learn the air', () => {
  const most = { good: [1, 2], home: [2, 3], far: [3, 6], narrow: [0, 0] };
  for (const [air, [first, later]] of Object.entries(most)) {
    const { gaps } = playedOn(air);
    const early = gaps.filter((at) => at < LEARNS).length;
    assert.ok(early <= first && gaps.length - early <= later, `${air}: gaps at ${gaps.map((at) => at.toFixed(1))} s`);
  }
});

/**
 * The bounds for each air: the median in seconds behind the quickest block, 65 ms less than behind the room, on the mean of all chances;
 * the gaps in the first 20 s, and in a minute after them.
 */
const BOUNDS = { good: [0.125, 1, 0.2], home: [0.185, 2, 1], far: [0.415, 3, 2.25] };
const SEEDS = [11, 12, 13];
const SECONDS = 300;

for (const [air, [most, first, perMinute]] of Object.entries(BOUNDS)) {
  test(`whatever the chance, the air “${air}” is played as it should be`, (t) => {
    let [count, delays] = [0, 0];
    for (const seed of SEEDS) {
      const { behind, gaps } = play(model(air, seed, SECONDS));
      const delay = median(behind.filter(({ at }) => at > LEARNS).map(({ seconds }) => seconds));
      const early = gaps.filter((at) => at < LEARNS).length;
      t.diagnostic(`${air}, seed ${seed}: ${ms(delay)} behind the quickest block; ${early} gaps in the first ${LEARNS} s, ${gaps.length - early} after them`);
      delays += delay;
      assert.ok(early <= first, `${early} gaps in the beginning with seed ${seed}`);
      count += gaps.length - early;
    }
    assert.ok(delays / SEEDS.length < most, `${ms(delays / SEEDS.length)} on the mean`);
    const minutes = SEEDS.length * (SECONDS - LEARNS) / 60;
    assert.ok(count <= perMinute * minutes, `${count} gaps in ${minutes.toFixed(1)} minutes`);
  });
}

test('on an air without faults nothing is stretched, and the delay is what the player needs', () => {
  // Up to 3 ms of jitter.
  const { behind, gaps, stretched } = play(Array.from({ length: 6000 }, (_, i) => i * 0.01 + i * i % 7 * 0.0005));
  const delay = median(behind.map(({ seconds }) => seconds));
  assert.deepEqual(gaps, []);
  assert.ok(delay < 0.03, ms(delay));
  assert.equal(stretched, 0);
});

test('when the air calms down the delay falls within a minute', () => {
  const arrivals = trace('far-good');
  const change = arrivals.at(-1) / 2;
  const { behind } = playedOn('far-good');
  const between = (from, to) => behind.filter(({ at }) => at >= from && at < to).map(({ seconds }) => seconds);
  const before = median(between(change - 20, change));
  const after = between(change + 58, change + 62);
  const best = oracle(arrivals.slice(Math.round(change * 100)), 0);
  assert.ok(before > 0.2, ms(before));
  assert.ok(median(after) <= best + ABOVE, `${ms(median(after))} after a minute, the oracle ${ms(best)}`);
});

test('three seconds after a stall the delay is at its target', () => {
  // A calm air, with a stall longer than the buffer each 20 s.
  const arrivals = Array.from({ length: 12_000 }, (_, i) => Math.max(i * 0.01, Math.floor(i / 2000) * 20 + (i < 2000 ? 0 : 0.25)));
  const { behind } = play(arrivals);
  for (let stall = 20; stall < 120; stall += 20) {
    const after = behind.filter(({ at }) => at >= stall + 3.1 && at < stall + 3.4);
    const excess = median(after.map(({ seconds, target }) => seconds - target));
    assert.ok(Math.abs(excess) < 0.02, `${ms(excess)} from its target after the stall at ${stall} s`);
  }
});

test('an air that carries less than the stream needs is known within seconds, and no other air seems so', () => {
  const slow = new Jitter(0.022);
  // Of 1411 kbit/s, 600 come.
  let at = 0;
  for (let start = 0; !slow.narrow; start += 0.01) {
    at += 0.01 * 1411 / 600;
    slow.came(at, start);
    assert.ok(at < 5, 'not within 5 s');
  }
  for (const air of ['good', 'home', 'far', 'narrow', 'far-good']) assert.equal(playedOn(air).narrowAt, null, air);
});

test('an air that carries a little less than the stream needs is known in time', () => {
  const slow = new Jitter(0.022);
  for (let at = 0, start = 0; !slow.narrow; start += 0.01) {
    at += 0.01 * 1411 / 1300;
    slow.came(at + (start * 100 % 5) * 0.002, start);
    assert.ok(at < 30, 'not within 30 s');
  }
});

test('it plays on after the server has left out sound, or the way has become slower', () => {
  // From 20 s on everything comes a second later than before.
  const arrivals = Array.from({ length: 6000 }, (_, i) => i * 0.01 + i % 3 * 0.001 + (i < 2000 ? 0 : 1));
  const { behind, gaps, narrowAt } = play(arrivals);
  assert.equal(narrowAt, null);
  assert.ok(gaps.length <= 2, `gaps at ${gaps}`);
  const after = behind.filter(({ at }) => at > 26);
  assert.ok(after.length > 3300, `${after.length / 100} s played after the change`);
  assert.ok(median(after.map(({ seconds }) => seconds)) < 1.06);
});

test('the sound as played has no step larger than the sound itself', () => {
  for (const air of ['good', 'home', 'far', 'far-good']) {
    const { played } = playedOn(air);
    let [before, most] = [0, 0];
    for (const sample of played) {
      most = Math.max(most, Math.abs(sample - before));
      before = sample;
    }
    // The tones move by up to 0.15 from one sample to the next, and the noise by 0.02.
    assert.ok(most < 0.18, `${air}: a step of ${most}`);
  }
});

test('one late piece alone does not raise the target much, many do', () => {
  const jitter = new Jitter(0.022);
  const come = (from, to, late) => {
    for (let i = from; i < to; i++) jitter.came(i * 0.01 + late(i), i * 0.01);
  };
  come(0, 200, () => 0);
  come(200, 225, (i) => (225 - i) * 0.01);
  come(225, 300, () => 0);
  assert.ok(jitter.target < 0.06, ms(jitter.target));
  come(300, 2000, (i) => Math.max(0, 20 - i % 100) * 0.01);
  assert.ok(jitter.target > 0.18, ms(jitter.target));
});
