// The page in a browser: the page loads without a complaint, and the browser's player plays every format.

import assert from 'node:assert/strict';

import { CHROMIUM, FIREFOX, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

const FORMATS = {
  mono16: { rate: 44_100, channels: 1, bits: 16 },
  mono24: { rate: 44_100, channels: 1, bits: 24 },
  stereo16: { rate: 48_000, channels: 2, bits: 16 },
  stereo24: { rate: 48_000, channels: 2, bits: 24 },
};

const INPUTS = Object.entries(FORMATS).map(([name, { rate, channels, bits }], i) => `
[input.${name}]
device = "synth:tone?hz=${440 + i}"
rate = ${rate}
channels = ${channels}
format = "s${bits}"
`).join('');

/** The data size that the WAV header must have for a browser that needs whole frames: an even one, without a pad byte. */
const WHOLE_FRAMES = (frame) => {
  const unit = frame * (1 + frame % 2);
  return 0xFFFFFFFF - 36 - (0xFFFFFFFF - 36) % unit;
};
const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium, status: 200, data: () => 0xFFFFFFFF, player: /^Chrome \d/ },
  { name: 'Firefox', programs: FIREFOX, launch: firefox, status: 206, data: WHOLE_FRAMES, player: /^Firefox \d/ },
];

for (const { name, programs, launch, status, data, player } of BROWSERS) {
  scenario(`${name} plays every format from the page`, { needs: [programs, ...LOUDSPEAKER] }, async (t, use) => {
    const daemon = await use(Daemon.start(INPUTS));
    const wire = await use(Wire.to(daemon.port));
    const browser = await use(launch(await use(Loudspeaker.start())));
    t.diagnostic(`${name}: ${await browser.version()}`);
    await daemon.remembers(3.5);
    for (const [input, { rate, channels, bits }] of Object.entries(FORMATS)) {
      const tab = await Tab.open(browser, `http://127.0.0.1:${wire.port}/`);
      const started = await tab.play(input);
      const speed = await tab.playsInRealTime(2);
      assert.deepEqual(tab.complaints, []);

      await tab.playedOn();
      const [{ headers, answer }, ...more] = wire.asked(`/${input}.wav`);
      assert.deepEqual(more, [], 'one request is enough');
      if (input === 'mono16') t.diagnostic(`${name} asks with ${JSON.stringify(headers)}`);
      assert.equal(answer.status, status);
      assert.deepEqual(format(answer.body), { rate, channels, bits });
      assert.equal(answer.body.readUInt32LE(40), data(channels * bits / 8));

      const { listeners } = await daemon.status();
      assert.equal(listeners.length, 1);
      assert.match(listeners[0].player, player);
      assert.equal(listeners[0].frames_skipped, 0);
      t.diagnostic(
        `${name}, ${channels} × ${rate} Hz × ${bits} bit: starts in ${started.toFixed(0)} ms, ` +
        `plays at ${speed.toFixed(3)} of real time`,
      );
      await tab.close();
      await daemon.nobodyListens();
    }
  });
}

/** Returns the format in a WAV header. */
function format(header) {
  assert.equal(header.toString('latin1', 0, 4) + header.toString('latin1', 8, 16), 'RIFFWAVEfmt ');
  return { rate: header.readUInt32LE(24), channels: header.readUInt16LE(22), bits: header.readUInt16LE(34) };
}
