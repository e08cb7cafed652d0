// An unplugged card during playback in a browser.

import assert from 'node:assert/strict';

import { CHROMIUM, Tab, chromium } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

scenario('the card is unplugged for 5 s under Chromium, which plays on', {
  needs: [CHROMIUM, ...LOUDSPEAKER],
}, async (t, use) => {
  const card = await use(Card.make());
  const daemon = await use(Daemon.start('[input.live]\ndevice = "fake"\n', card));
  const wire = await use(Wire.to(daemon.port));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(2);
  const tab = await Tab.open(browser, `http://127.0.0.1:${wire.port}/`);
  await tab.play('live');
  await tab.playsInRealTime(1);

  card.command('unplug');
  await daemon.inState('live', 'lost');
  await tab.playsInRealTime(5);
  card.command('run');
  const { frames, silence_frames: silence } = await daemon.inState('live', 'capturing');
  await tab.playsInRealTime(2);

  const after = await daemon.inState('live', 'capturing');
  assert.ok(after.frames > frames, 'the card is heard again');
  assert.equal(after.losses, 1);
  t.diagnostic(`${(silence / after.format.rate).toFixed(2)} s of silence took the lost sound's place`);
  const { listeners } = await daemon.status();
  assert.deepEqual(listeners.map((listener) => listener.frames_skipped), [0]);
  assert.equal(wire.asked('/live.wav').length, 1, 'one connection throughout');
  await tab.playedOn();
});
