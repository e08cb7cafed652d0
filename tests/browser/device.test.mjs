// Live playback with devices that behave oddly: a loudspeaker that the system takes away for a while, and a card with long periods.

import assert from 'node:assert/strict';

import { CHROMIUM, INSECURE_HOST, Tab, chromium } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';

const NEEDS = { needs: [CHROMIUM, ...LOUDSPEAKER] };

scenario('a loudspeaker that is taken away piles nothing up, and sound goes on at the live edge', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:tone"\n'));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${daemon.port}/`, { before: watchContext });
  await tab.ready();
  await tab.press('#play');
  await tab.says('Listening live');
  await until('sound', () => tab.page.evaluate(() => window.nodes > 10));

  await tab.page.evaluate(() => window.context.suspend());
  await tab.says('Paused by your device. Press play to go on.');
  const frames = async () => (await daemon.inState('live', 'capturing')).frames;
  const [nodes, before] = [await tab.page.evaluate(() => window.nodes), await frames()];
  await until('two seconds', async () => (await frames()) > before + 2 * 44_100);
  const more = await tab.page.evaluate(() => window.nodes) - nodes;
  assert.ok(more < 10, `${more} nodes for a device that takes none`);

  await tab.page.evaluate(() => window.context.resume());
  await tab.says('Listening live');
  await until('the live edge', async () => (await tab.figures()).delay < 1000);
  assert.deepEqual(tab.complaints, []);
});

scenario('a card whose periods are long plays', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:tone"\nperiod_ms = 60\n'));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${daemon.port}/`);
  await tab.ready();
  await tab.press('#play');
  await tab.says('Listening live');
  assert.deepEqual(tab.complaints, []);
});

/** Runs in the page: remembers its context, and counts its nodes. */
function watchContext() {
  const Own = window.AudioContext;
  window.nodes = 0;
  window.AudioContext = class extends Own {
    constructor(...options) {
      super(...options);
      window.context = this;
    }

    createBufferSource() {
      window.nodes++;
      return super.createBufferSource();
    }
  };
}
