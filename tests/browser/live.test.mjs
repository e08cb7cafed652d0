// Live playback: time to the first sound, delay behind the room, accuracy of the page's figure, and dropouts.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { Room, noise, write } from './support/room.mjs';
import { scenario } from './support/scenario.mjs';

/** The limits in ms, on a machine that is not busy: first sound, delay, and error of the page's delay. */
const TARGET = { first: 150, delay: 100, wrong: 15 };
/** The time without a dropout after the first seconds, in s. WAVECAST_LONG=1 makes it ten minutes. */
const SECONDS = process.env.WAVECAST_LONG === '1' ? 600 : 8;
const SETTLE = 5;
/** The number of attempts. The host of a virtual machine may be busy for a minute. */
const ATTEMPTS = SECONDS > 60 ? 3 : 6;

const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
];

for (const { name, programs, launch } of BROWSERS) {
  scenario(`${name} plays live on an insecure origin, knows how far it is behind, and goes on so`, {
    needs: [programs, ...LOUDSPEAKER, 'pactl'],
    seconds: ATTEMPTS * (60 + SECONDS),
  }, async (t, use) => {
    const sound = noise();
    const card = await use(Card.make((file) => write(sound, file)));
    const daemon = await use(Daemon.start('[input.live]\ndevice = "fakeraw"\n', card));
    await daemon.inState('live', 'capturing');
    const room = await Room.of(daemon.port, sound);
    const speaker = await use(Loudspeaker.start());
    const browser = await use(launch(speaker));

    const attempt = async () => {
      const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${daemon.port}/`);
      await tab.ready();
      await pause(500);
      const recording = await speaker.record();
      const clicked = await tab.press('#play');
      await tab.inState('playing');
      await pause(SETTLE * 1000);
      const gaps = await tab.gaps();

      const delays = [];
      const [began, end] = [performance.now(), performance.now() + SECONDS * 1000];
      for (let known = gaps; performance.now() < end;) {
        await pause(1000);
        delays.push((await tab.figures()).delay);
        const now = await tab.gaps();
        if (now === known) continue;
        // Reported at once: a run takes up to ten minutes.
        const seconds = Math.round((performance.now() - began) / 1000);
        console.log(`${name}: ${now - known} gaps more, ${seconds} s after the first ${SETTLE}`);
        known = now;
      }
      const measured = [];
      for (let i = 0; i < 12; i++) {
        await pause(200);
        const piece = recording.last(0.12);
        const { time, alike } = await room.captured(piece);
        // The sound in the device's buffer is not audible yet.
        if (alike > 0.8) measured.push(piece.at + speaker.buffer() - time);
      }
      const { delay, figures } = await tab.figures();
      const first = recording.soundAfter(clicked) - clicked;
      // A browser that stutters plays sound that does not match the source.
      const heard = measured.length < 4 ? NaN : median(measured);
      const result = { first, delay: heard, wrong: Math.abs(delay - heard), gaps: await tab.gaps() - gaps };
      t.diagnostic(
        `${name}: first sound after ${first.toFixed(0)} ms, ${result.delay.toFixed(0)} ms behind the room, the ` +
        `page says ${delay.toFixed(0)} (in ${SECONDS} s ${median(delays).toFixed(0)}, at most ${Math.max(...delays).toFixed(0)}); ` +
        `${gaps} gaps in the first ${SETTLE} s, ${result.gaps} after them; margin ${figures.margin.toFixed(0)} ms`,
      );
      assert.deepEqual(tab.complaints, []);
      await recording.close();
      await tab.close();
      return result;
    };
    const results = [];
    // Each target in at least one attempt: on a busy machine different attempts may meet different targets.
    const kept = () => results.some(({ gaps }) => gaps === 0) && Object.entries(TARGET).every(([figure, most]) => (
      results.some((result) => result[figure] < most)
    ));
    while (results.length < ATTEMPTS && !kept()) results.push(await attempt());
    assert.ok(kept(), JSON.stringify(results));
  });
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
