// The kept sound as a place: peaks, positions and the selection. Needs no browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Timeline, markEvery } from '../../src/page/timeline.js';

const RATE = 1000;

/** Returns a timeline of 30 s with `steps` steps of 0.1 s, as the server has it. */
function loaded(steps, first = 0) {
  const timeline = new Timeline();
  timeline.history = 30;
  timeline.load({ stream: 7, rate: RATE, step_frames: 100, first, peaks: Array.from({ length: steps }, () => -20) });
  return timeline;
}

test('the peaks of the server are on the timeline before any event', () => {
  const timeline = loaded(301, 1000);
  const bars = timeline.bars(1000);
  assert.equal(bars.length, 301);
  assert.deepEqual(bars[0], { from: 100_000, to: 100_100, peak: -20 });
  assert.equal(timeline.edge, 130_000);
});

test('events move the edge, and what is no longer kept leaves', () => {
  const timeline = loaded(301, 1000);
  for (let frame = 130_099; frame < 190_000; frame += 100) timeline.add(7, frame, frame % 1000 < 500 ? -6 : null);
  assert.equal(timeline.edge, 190_000);
  const bars = timeline.bars(1000);
  assert.ok(bars.length >= 300 && bars.length <= 302, `${bars.length}`);
  assert.ok(bars.every(({ peak }) => peak === -6 || peak === -200));
  // Another stream's events and late ones change nothing.
  timeline.add(8, 999_999, 0);
  timeline.add(7, 5, 0);
  assert.equal(timeline.edge, 190_000);
});

test('after a pause of the page only the end is drawn, until the server is asked again', () => {
  const timeline = loaded(301);
  timeline.add(7, 50_000, -3);
  assert.equal(timeline.bars(1000).filter(({ peak }) => peak === -3).length, 4);
  timeline.load({ stream: 7, rate: RATE, step_frames: 100, first: 199, peaks: new Array(300).fill(-10) });
  const bars = timeline.bars(1000);
  assert.equal(bars.filter(({ peak }) => peak === -10).length, 300);
  assert.equal(timeline.edge, 50_001);
});

test('a bar keeps its frames while it moves', () => {
  const timeline = loaded(301);
  const before = timeline.bars(50).map(({ from }) => from);
  timeline.add(7, 30_450, -1);
  const after = timeline.bars(50).map(({ from }) => from);
  assert.ok(before.length <= 52);
  assert.ok(after.slice(0, -1).every((from) => before.includes(from)), `${after}`);
});

test('places, frames and seconds belong together', () => {
  const timeline = loaded(301);
  assert.equal(timeline.place(timeline.edge), 1);
  assert.equal(timeline.place(timeline.frameAgo(30)), 0);
  assert.equal(timeline.ago(timeline.frameAt(0.5)), 15);
  assert.equal(timeline.place(-1e9), 0);
});

test('the usual selection is the last minute, or all that is kept', () => {
  const young = loaded(80);
  assert.deepEqual(young.selected, { from: 900, to: 7900, seconds: 7, usual: true });
  assert.equal(loaded(301).selected.seconds, 30);
  const long = loaded(1200);
  long.history = 120;
  assert.equal(long.selected.seconds, 60);
  assert.equal(loaded(1).selected, null, 'nothing yet');
  assert.equal(new Timeline().selected, null);
  const none = loaded(301);
  none.history = 0;
  assert.equal(none.selected, null);
});

test('a selection keeps its frames as long as they are kept, and at least half a second', () => {
  const timeline = loaded(301);
  timeline.select(20_000, 10_000);
  assert.deepEqual(timeline.selected, { from: 10_000, to: 20_000, seconds: 10, usual: false });
  timeline.select(20_000, 20_001);
  assert.equal(timeline.selected.seconds, 0.5);
  timeline.select(10_000, 20_000);
  timeline.add(7, 44_999, -20);
  assert.deepEqual(timeline.selected, { from: 15_000, to: 20_000, seconds: 5, usual: false });
  timeline.add(7, 59_999, -20);
  assert.equal(timeline.selected.usual, true, 'it is gone');
  timeline.select(40_000, 99_000);
  assert.equal(timeline.selected.to, timeline.edge);
});

test('the marks of an axis have room', () => {
  assert.equal(markEvery(30, 10), 5);
  assert.equal(markEvery(30, 3), 10);
  assert.equal(markEvery(3600, 12), 300);
  assert.equal(markEvery(86_400, 1), 86_400);
});
