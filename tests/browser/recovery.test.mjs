// Recovery of the page from failures: the page reports each failure, and resumes at the live edge without a reload.

import assert from 'node:assert/strict';

import { CHROMIUM, FIREFOX, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

const TONE = '[input.deck]\ndevice = "synth:tone"\n';
const CUT = 'Connection lost. Reconnecting…';

for (const { name, programs, launch } of [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
]) {
  for (const way of ['live', 'background']) {
    scenario(`${name} plays on after everything that breaks, ${way}`, {
      needs: [programs, ...LOUDSPEAKER],
    }, async (t, use) => {
      const daemon = await use(Daemon.start(TONE));
      const wire = await use(Wire.to(daemon.port));
      const browser = await use(launch(await use(Loudspeaker.start())));
      await daemon.remembers(3.5);
      const tab = await Tab.open(browser, `http://localhost:${wire.port}/`);
      await tab.ready();
      await tab.page.evaluate(() => { window.neverLoadedAgain = true; });
      const most = way === 'live' ? 400 : 4000;
      const plays = async (what, since) => {
        await tab.says('Listening live');
        await until('sound', async () => (await tab.figures()).delay < most);
        assert.equal(await tab.page.evaluate(() => window.neverLoadedAgain), true);
        t.diagnostic(`${name}, ${way}: plays ${((performance.now() - since) / 1000).toFixed(1)} s after ${what}`);
      };
      await tab.page.click(`[name="way"][value="${way}"]`);
      await tab.press('#play');
      await plays('the click', performance.now());

      await daemon.kill();
      await tab.says(CUT);
      await daemon.run(TONE);
      await plays('the server was started again', performance.now());

      wire.block();
      await tab.says(CUT);
      wire.unblock();
      await plays('the network was there again', performance.now());

      daemon.reload('[input.deck]\ndevice = "synth:tone"\nrate = 48000\nchannels = 1\n');
      const changed = performance.now();
      await until('the other format', async () => (await tab.fact('format')).startsWith('48\u00a0kHz, mono'));
      await plays('the format was changed', changed);

      daemon.reload('[input.other]\ndevice = "synth:tone"\n');
      await tab.says('There is no input “deck”.');
      daemon.reload(TONE);
      await plays('the input was there again', performance.now());
      await tab.page.click('#play');
      await tab.says('Press play to listen');
      await daemon.nobodyListens();
    });
  }
}
