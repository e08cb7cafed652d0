// The cost of the page: requests, time until the page is usable, and CPU time while nothing plays.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, Tab, chromium } from './support/browsers.mjs';
import { load } from './support/cpu.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';
import { Stopwatch } from './support/stopwatch.mjs';
import { Wire } from './support/wire.mjs';

/** The limits on a machine that is not busy: ms until the page can be used, and a share of one core. */
const TARGET = { ready: 100, idle: 0.05 };
/** The factors by which a busy machine may exceed the limits: it starts a tab later, and each wake-up takes longer there. */
const BUSY = { ready: 2.5, idle: 1.5 };
const ATTEMPTS = 3;

scenario('the page is there at once, asks for little, and leaves the processor alone', {
  needs: [CHROMIUM, ...LOUDSPEAKER],
}, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:noise"\n'));
  const wire = await use(Wire.to(daemon.port));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.inState('live', 'capturing');

  // From the start of the navigation to a working button. More repetitions while other programs keep the machine busy.
  const ready = [];
  let tab;
  for (let i = 0; i < 5 || (i < 15 && Math.min(...ready) > TARGET.ready); i++) {
    await tab?.close();
    const watch = new Stopwatch();
    tab = await Tab.open(browser, `http://localhost:${wire.port}/`);
    const after = await until('it to be ready', () => tab.page.evaluate(() => window.readyAt));
    ready.push(Math.max(after - watch.stolen(), 0));
    assert.deepEqual(tab.complaints, []);
  }
  const [first, ...later] = ready.map(Math.round);
  t.diagnostic(`usable after ${first} ms, and when the browser had it already after ${later.join(', ')} ms`);
  const others = wire.exchanges.filter(({ headers }) => headers.host !== `localhost:${wire.port}`);
  assert.deepEqual(others, [], 'it asks nobody else');
  const files = wire.exchanges.filter(({ target }) => target === '/' || target.startsWith('/@page/'));
  // The icon is the browser's own affair, and a tab that is closed may leave a request without an answer.
  const sent = files.filter(({ target, answer }) => answer?.status === 200 && !target.includes('/icon')).map(({ target }) => target);
  assert.deepEqual(sent, [...new Set(sent)], 'it sends each file once');
  const again = files.filter(({ answer }) => answer?.status === 304).map(({ target }) => target);
  assert.deepEqual([...new Set(again)], ['/'], 'a browser that has the page asks for its first file alone');

  const idle = [];
  do {
    await pause(4000);
    idle.push(await load(browser.process().pid, 6));
  } while (idle.length < ATTEMPTS && idle.at(-1) > TARGET.idle);
  t.diagnostic(`idle: ${idle.map((share) => (100 * share).toFixed(1)).join(', ')} % of a core, the whole browser`);
  const kept = Math.min(first, ...later) < TARGET.ready && Math.min(...idle) < TARGET.idle;
  t.diagnostic(`${kept ? 'within' : 'NOT within'} ${TARGET.ready} ms and ${100 * TARGET.idle} %`);
  assert.ok(Math.min(first, ...later) < BUSY.ready * TARGET.ready, `usable after ${ready} ms`);
  assert.ok(Math.min(...idle) < BUSY.idle * TARGET.idle, `${idle} of a core`);
});
