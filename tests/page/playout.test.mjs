// The playout of sound that comes in pieces of any size, with gaps: it never clicks, and loses count of no frame.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Playout } from '../../src/page/playout.js';
import { Chance } from '../browser/support/air.mjs';

const RATE = 44_100;
const DEVICE_RATE = 48_000;
/** A tone of 440 Hz, and how far its samples differ from one to the next. */
const tone = (frame) => 0.125 * Math.sin(2 * Math.PI * 440 * frame / RATE);
const STEP = 0.125 * 2 * Math.PI * 440 / DEVICE_RATE;

test('whatever the pieces and the gaps, the sound has no step larger than its own', () => {
  const [chance, playout] = [new Chance(7), new Playout(RATE, DEVICE_RATE, 1)];
  let [frame, most, last] = [0, 0, 0];
  const give = () => {
    for (const sample of playout.give(0.002, 0, true)?.[0] ?? []) {
      most = Math.max(most, Math.abs(sample - last));
      last = sample;
    }
  };
  for (let block = 0; block < 3000; block++) {
    // A tenth of the blocks is missing; the others come in pieces of up to 60 frames.
    for (let left = chance.next() < 0.9 ? RATE / 100 : 0; left > 0;) {
      const count = Math.min(left, 1 + Math.floor(chance.next() * 60));
      playout.push([Float32Array.from({ length: count }, () => tone(frame++))], 0, 0.03, 0);
      left -= count;
      if (chance.next() < 0.1) give();
    }
    for (let i = 0; i < 5; i++) give();
  }
  assert.ok(playout.gaps > 100, `${playout.gaps} gaps`);
  // A fade adds to the steps.
  assert.ok(most < 1.5 * STEP, `a step of ${most}, the tone has ${STEP}`);
  assert.ok(frame - playout.frame >= 0 && frame - playout.frame < RATE, `${frame - playout.frame} frames wait`);
});

test('past sound keeps its distance, and none of it is left out', () => {
  const playout = new Playout(RATE, RATE, 1, true);
  const block = () => playout.push([new Float32Array(441)], 0, 0.03, 0);
  for (let i = 0; i < 1000; i++) block();
  for (let i = 0; i < 3000; i++) {
    playout.give(0.01, 0, true);
    block();
  }
  assert.ok(Math.abs(playout.queued - 10) < 0.05, `${playout.queued} s`);
  assert.equal(playout.stretched, 0);
  assert.equal(playout.gaps, 0);
});
