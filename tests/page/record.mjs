// Records when the pieces of a live stream come over each kind of air, for the tests of the jitter buffer:
//
//   node tests/page/record.mjs [SECONDS]
//
// A trace has one character for each block of 10 ms: the time in ms since the block before came, in base 36; 'z' is 35 ms
// and goes on with the next character. The first block came at time 0.

import { mkdirSync, writeFileSync } from 'node:fs';

import { Air } from '../browser/support/air.mjs';
import { Daemon } from '../browser/support/daemon.mjs';

const SECONDS = Number(process.argv[2] ?? 180);
/** The change of the air that changes, after this share of the time. */
const CHANGE = 0.5;

// A stream that a narrow air can carry, with little to spare: 512 kbit/s of sound.
const NARROW = '[input.small]\ndevice = "synth:tone"\nrate = 32000\nchannels = 1\n';
const daemon = await Daemon.start(`[input.live]\ndevice = "synth:tone"\n${NARROW}`);
await daemon.inState('live', 'capturing');
await daemon.inState('small', 'capturing');
const folder = new URL('traces/', import.meta.url);
mkdirSync(folder, { recursive: true });
await Promise.all([
  ...['none', 'good', 'home', 'far'].map((kind, i) => record(kind, kind, { seed: i + 1 })),
  record('narrow', 'narrow', { input: 'small', frame: 2, rate: 32_000, seed: 5 }),
  record('far-good', 'far', { seed: 6, then: 'good' }),
]);
await daemon.close();

async function record(name, kind, { input = 'live', rate = 44_100, frame = 4, seed, then }) {
  const air = await Air.to(daemon.port, kind, seed);
  const stop = new AbortController();
  const stream = await fetch(`http://127.0.0.1:${air.port}/${input}.wav?latency=low`, { signal: stop.signal });
  const block = rate / 100 * frame;
  let [bytes, blocks, began, last, text] = [-44, 0, 0, 0, ''];
  const change = then && setTimeout(() => air.become(then), SECONDS * CHANGE * 1000);
  for await (const piece of stream.body) {
    const now = performance.now();
    began ||= now;
    bytes += piece.length;
    // A block came when its first sample did.
    for (; blocks * block < bytes; blocks++) {
      let since = Math.round(now - began) - last;
      last += since;
      for (; since >= 35; since -= 35) text += 'z';
      text += since.toString(36);
    }
    if (now - began > SECONDS * 1000) break;
  }
  clearTimeout(change);
  stop.abort();
  await air.close();
  writeFileSync(new URL(`${name}.txt`, folder), `${text.replace(/.{120}/g, '$&\n')}\n`);
  console.log(`${name}: ${blocks} blocks, ${air.stalls} stalls`);
}
