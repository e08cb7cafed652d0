// Live: how soon it is heard, how far it is behind the room, and whether the page knows.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { Room, noise, write } from './support/room.mjs';
import { scenario, until } from './support/scenario.mjs';

const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
];
const ORIGINS = [
  { origin: 'a secure origin', host: 'localhost', way: 'worklet' },
  { origin: 'an insecure one', host: INSECURE_HOST, way: 'scheduled' },
];

for (const { name, programs, launch } of BROWSERS) {
  for (const { origin, host, way } of ORIGINS) {
    scenario(`${name} plays live on ${origin}, and knows how far it is behind`, {
      needs: [programs, ...LOUDSPEAKER],
    }, async (t, use) => {
      const sound = noise();
      const card = await use(Card.make((file) => write(sound, file)));
      const daemon = await use(Daemon.start('[input.live]\ndevice = "fakeraw"\n', card));
      await daemon.inState('live', 'capturing');
      const room = await Room.of(daemon.port, sound);
      const speaker = await use(Loudspeaker.start());
      const browser = await use(launch(speaker));
      const tab = await Tab.open(browser, `http://${host}:${daemon.port}/`);
      const recording = await use(speaker.record());
      await tab.ready();
      await pause(500);

      const clicked = await tab.press('#play');
      await tab.inState('playing');
      await pause(7000);
      const { figures, delay } = await tab.figures();
      assert.equal(figures.way, way);
      const measured = [];
      for (let i = 0; i < 8; i++) {
        await pause(400);
        const heard = recording.last(0.12);
        const { time, alike } = await room.captured(heard);
        if (alike > 0.8) measured.push(heard.at + speaker.buffer() - time);
        else t.diagnostic(`alike ${alike}`);
      }
      assert.ok(measured.length >= 4, 'what the loudspeaker says is what the room says');
      measured.sort((a, b) => a - b);
      const median = measured[Math.floor(measured.length / 2)];
      const first = recording.soundAfter(clicked);
      t.diagnostic(
        `${name}, ${way}, buffer ${speaker.buffer()}: first sound after ${(first - clicked).toFixed(0)} ms, ${median.toFixed(0)} ms behind the room ` +
        `(${measured.map((ms) => ms.toFixed(0)).join(' ')}), the page says ${delay.toFixed(0)}; ${JSON.stringify(figures)}, ` +
        await tab.fact('dropouts'),
      );
      assert.deepEqual(tab.complaints, []);
    });
  }
}
