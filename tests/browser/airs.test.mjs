// How live playback does over each kind of air in the long run, on an insecure origin. Its figures are in docs/performance.md.
// It runs for WAVECAST_AIRS seconds for each air and browser, and only on a machine that does nothing else.

import { setTimeout as pause } from 'node:timers/promises';

import { AIRS, AirApart } from './support/air.mjs';
import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario } from './support/scenario.mjs';

const SECONDS = Number(process.env.WAVECAST_AIRS ?? 0);
/** The time in s in which the buffer gets to know the air. */
const BEGINNING = 20;

const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
];

for (const air of SECONDS ? Object.keys(AIRS) : []) {
  for (const { name, programs, launch } of BROWSERS) {
    scenario(`${name} over the air "${air}" for ${SECONDS} s`, {
      needs: [programs, ...LOUDSPEAKER],
      seconds: SECONDS + 60,
    }, async (t, use) => {
      const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:tone"\n'));
      const between = await use(AirApart.to(daemon.port, air));
      const browser = await use(launch(await use(Loudspeaker.start())));
      const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${between.port}/`);
      await tab.ready();
      await tab.press('#play');
      await tab.inState('playing');
      const delays = [];
      const gaps = [];
      for (let second = 1; second <= SECONDS; second++) {
        await pause(1000);
        delays.push((await tab.figures()).delay);
        gaps.push(await tab.gaps());
      }
      const after = delays.slice(BEGINNING).sort((a, b) => a - b);
      const first = gaps[BEGINNING - 1];
      t.diagnostic(
        `${name}, ${air}: ${after[after.length >> 1].toFixed(0)} ms behind the room (${after[0].toFixed(0)} to ${after.at(-1).toFixed(0)}), ` +
        `${first} gaps in the first ${BEGINNING} s, ${gaps.at(-1) - first} in the ${SECONDS - BEGINNING} s after them ` +
        `(at ${gaps.flatMap((count, at) => (count > (gaps[at - 1] ?? 0) ? [at] : [])).join(', ')} s)`,
      );
    });
  }
}
