// The page's decoder of FLAC, on what the daemon encodes. Needs no browser.

import assert from 'node:assert/strict';

import { FlacReader } from '../../src/page/flac.js';
import { WavReader } from '../../src/page/sound.js';
import { Daemon } from './support/daemon.mjs';
import { scenario } from './support/scenario.mjs';

const SECONDS = 1.5;

const INPUTS = {
  noise: { device: 'synth:noise', rate: 44_100, channels: 2, format: 's16' },
  deep: { device: 'synth:noise', rate: 48_000, channels: 2, format: 's24' },
  tone: { device: 'synth:tone', rate: 44_100, channels: 1, format: 's24' },
  wide: { device: 'synth:tone', rate: 96_000, channels: 6, format: 's16' },
  odd: { device: 'synth:ramp', rate: 11_025, channels: 2, format: 's16' },
};

const CONFIG = Object.entries(INPUTS).map(([name, { device, rate, channels, format }]) => (
  `[input.${name}]\ndevice = "${device}"\nrate = ${rate}\nchannels = ${channels}\nformat = "${format}"\n`
)).join('');

scenario('the page decodes FLAC to the very samples of the uncompressed stream', {}, async (t, use) => {
  const daemon = await use(Daemon.start(CONFIG));
  for (const name of Object.keys(INPUTS)) await daemon.inState(name, 'capturing');
  for (const [name, { rate, channels }] of Object.entries(INPUTS)) {
    const [wav, flac] = await Promise.all([
      listen(daemon, `${name}.wav`, new WavReader(), SECONDS + 1),
      listen(daemon, `${name}.flac`, new FlacReader(), SECONDS),
    ]);
    assert.deepEqual([flac.rate, flac.channels], [rate, channels]);
    assert.equal(flac.stream, wav.stream);
    // Either may have begun earlier.
    const first = Math.max(wav.first, flac.first);
    const end = Math.min(wav.first + wav.frames, flac.first + flac.frames);
    assert.ok(end - first > rate / 2, `${name}: ${end - first} frames in common`);
    for (let c = 0; c < channels; c++) {
      const part = ({ sound, first: began }) => sound[c].subarray(first - began, end - began);
      assert.deepEqual(part(flac), part(wav), `${name}, channel ${c + 1}`);
    }
    t.diagnostic(`${name}: ${end - first} frames are equal; ${(100 * flac.bytes / flac.frames / (wav.bytes / wav.frames)).toFixed(0)} % of the bytes`);
  }
});

/** Decodes the first seconds of a stream. */
async function listen(daemon, path, reader, seconds) {
  const stop = new AbortController();
  const answer = await fetch(`http://127.0.0.1:${daemon.port}/${path}?latency=low`, { signal: stop.signal });
  assert.equal(answer.status, 200);
  const [stream, first] = answer.headers.get('wavecast-frame').split('/').map(Number);
  const pieces = [];
  let [frames, bytes] = [0, 0];
  for await (const data of answer.body) {
    // In pieces that end anywhere.
    for (let at = 0, size = 1; at < data.length; at += size, size = size * 7 % 1999 + 1) {
      const piece = reader.push(data.subarray(at, at + size));
      if (!piece) continue;
      pieces.push(piece);
      frames += piece[0].length;
    }
    bytes += data.length;
    if (reader.format && frames > seconds * reader.format.rate) break;
  }
  stop.abort();
  const { rate, channels } = reader.format;
  const sound = Array.from({ length: channels }, (_, c) => {
    const all = new Float32Array(frames);
    pieces.reduce((at, { [c]: samples }) => (all.set(samples, at), at + samples.length), 0);
    return all;
  });
  return { stream, first, rate, channels, frames, bytes, sound };
}
