// Garbage collection in a browser that plays: freeing the buffers of a minute at once would be audible. A measurement, which
// WAVECAST_LONG=1 makes.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, INSECURE_HOST, Tab, chromium } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario } from './support/scenario.mjs';

/** The duration of the test: Chromium collects a few times in a minute. */
const SECONDS = 80;

if (process.env.WAVECAST_LONG === '1') scenario('Chromium collects its garbage now and then while it plays on an insecure origin', {
  needs: [CHROMIUM, ...LOUDSPEAKER],
  seconds: 180,
}, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:tone"\n'));
  const speaker = await use(Loudspeaker.start());
  const browser = await use(chromium(speaker));
  const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${daemon.port}/`);
  await tab.ready();
  await tab.press('#play');
  await tab.inState('playing');
  await tab.page.tracing.start({ categories: ['blink.user_timing', 'v8'] });
  // The mark identifies the page's process in the trace.
  await tab.page.evaluate(() => performance.mark('the page'));
  await pause(SECONDS * 1000);
  const { traceEvents } = JSON.parse(Buffer.from(await tab.page.tracing.stop()).toString());
  const { pid } = traceEvents.find(({ name }) => name === 'the page');
  const collections = traceEvents.filter((event) => event.name === 'MajorGC' && event.pid === pid);
  const longest = Math.max(0, ...collections.map(({ dur }) => dur)) / 1000;
  t.diagnostic(`${collections.length} collections in ${SECONDS} s, the longest took ${longest.toFixed(1)} ms`);
  assert.ok(collections.length > 0);
});
