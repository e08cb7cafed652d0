// What wavecast pushes to a real Icecast, in the audio element of each browser: a listener who joins later hears it.

import assert from 'node:assert/strict';

import { CHROMIUM, FIREFOX, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { ICECAST, Icecast, PASSWORD } from './support/icecast.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';

/** The formats of pushes, and the ends of their mounts. */
const FORMATS = { flac: 'ogg', opus: 'ogg', mp3: 'mp3' };
const BROWSERS = [
  { name: 'Chromium', program: CHROMIUM, launch: chromium },
  { name: 'Firefox', program: FIREFOX, launch: firefox },
];
/** The time until a browser plays: Chromium takes MP3 in blocks of two seconds. */
const PATIENCE_MS = 40_000;

for (const { name, program, launch } of BROWSERS) {
  scenario(`${name} joins a push of each format late and hears it`, { needs: [...ICECAST, program, ...LOUDSPEAKER] }, async (t, use) => {
    const icecast = await use(Icecast.start());
    const pushes = Object.entries(FORMATS).map(([format, end]) => (
      `[push.${format}]\nto = "icecast://127.0.0.1:${icecast.port}/${format}.${end}"\npassword = "${PASSWORD}"\nformat = "${format}"\n`
    ));
    const daemon = await use(Daemon.start(`[input.live]\ndevice = "synth:tone"\nrate = 48000\n${pushes.join('')}`));
    const speaker = await use(Loudspeaker.start({ steady: true }));
    const browser = await use(launch(speaker));
    for (const [format, end] of Object.entries(FORMATS)) {
      // On the air for two seconds already: the stream's headers have passed.
      await until(`${format} to be on the air`, async () => (await fetch(`http://127.0.0.1:${daemon.port}/healthz/push/${format}`)).ok);
      const tab = await Tab.open(browser, icecast.url('/status.xsl'));
      const start = await plays(tab, `/${format}.${end}`);
      const [left] = await speaker.hear(1);
      const loud = left.filter((sample) => Math.abs(sample) > 0.01).length;
      assert.ok(loud > left.length / 10, `${loud} of ${left.length} samples of ${format} are loud`);
      t.diagnostic(`${name}, ${format}: plays ${(start / 1000).toFixed(1)} s after the click`);
      await tab.close();
    }
  });
}

/** Plays an address in an audio element, and waits until two seconds have passed in it. Returns the time to the first, in ms. */
async function plays(tab, src) {
  await tab.page.evaluate((address) => {
    // Icecast's page is XML.
    const element = (name) => document.createElementNS('http://www.w3.org/1999/xhtml', name);
    const audio = Object.assign(element('audio'), { id: 'late' });
    const button = Object.assign(element('button'), { id: 'listen', textContent: 'Listen' });
    button.addEventListener('click', () => {
      const began = performance.now();
      audio.src = address;
      audio.play();
      // A late joiner's clock begins with the age of the stream.
      audio.addEventListener('playing', () => {
        window.heard ??= { from: audio.currentTime, after: performance.now() - began };
      });
    });
    audio.addEventListener('error', () => {
      window.failed = audio.error.message || `error ${audio.error.code}`;
    });
    document.body.prepend(audio, button);
  }, src);
  await tab.page.click('#listen');
  return until(`${src} to play`, async () => {
    const { failed, heard, clock } = await tab.page.evaluate(() => (
      { failed: window.failed, heard: window.heard, clock: document.querySelector('#late').currentTime }
    ));
    assert.equal(failed, undefined);
    return heard && clock > heard.from + 2 && heard.after;
  }, PATIENCE_MS);
}
