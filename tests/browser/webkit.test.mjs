// The page in WebKitGTK, which has the engine of Safari: the closest to an iPhone that Debian offers.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { INSECURE_HOST, Tab } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker, RATE } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';
import { WEBKIT, webkit } from './support/webkit.mjs';

const TONE = '[input.live]\ndevice = "synth:tone"\n';

for (const { origin, secure, host } of [
  { origin: 'a secure origin', secure: true, host: ({ port }) => `localhost:${port}` },
  { origin: 'an insecure one', secure: false, host: () => INSECURE_HOST },
]) {
  scenario(`WebKit plays live and in the background on ${origin}, and plays on after a restart`, {
    needs: [...WEBKIT, ...LOUDSPEAKER],
  }, async (t, use) => {
    const daemon = await use(Daemon.start(TONE));
    const speaker = await use(Loudspeaker.start());
    const browser = await use(webkit(speaker, { proxy: daemon.port }));
    await daemon.remembers(6);
    const tab = await Tab.open(browser, `http://${host(daemon)}/`);
    await tab.ready();
    assert.equal(await tab.page.evaluate(() => window.isSecureContext), secure);
    await until('the level', async () => (await tab.listed('.value'))[0] === '−18.1');

    await tab.page.click('#play');
    await tab.says('Listening live');
    // The delay must be of this kind, whichever clock the browser uses for the time of its sound. A busy machine adds to it.
    for (let i = 0; i < 5; i++) {
      await pause(500);
      const { delay } = await tab.figures();
      assert.ok(delay > 0 && delay < 1500, `${delay} ms`);
    }
    await is440Hz(speaker);
    const { delay } = await tab.figures();
    t.diagnostic(`${await browser.version()}, ${origin}: the page says ${delay} ms, which is without the way to the loudspeaker`);
    await tab.shoot(`webkit-${secure ? 'secure' : 'insecure'}`);

    await daemon.kill();
    await tab.says('Connection lost. Reconnecting…');
    await daemon.run(TONE);
    await tab.says('Listening live');

    await tab.page.click('[name="way"][value="background"]');
    await until('the browser\u2019s own player', async () => (await daemon.status()).listeners.some(({ player }) => /Safari|WebKit/i.test(player)));
    await tab.says('Listening live');
    await is440Hz(speaker);
    // The player reports `waiting` repeatedly, and plays on.
    await pause(3000);
    await tab.says('Listening live');

    await tab.page.click('#play');
    await tab.says('Press play to listen');
    await daemon.nobodyListens();
  });
}

/** Waits until the sound crosses zero upwards 440 times a second. */
async function is440Hz(speaker) {
  const crossings = async () => {
    const [left] = await speaker.hear(2);
    const second = left.subarray(-RATE);
    return second.filter((sample, i) => i > 0 && second[i - 1] < 0 && sample >= 0).length;
  };
  await until('the tone', async () => Math.abs(await crossings() - 440) <= 3);
}
