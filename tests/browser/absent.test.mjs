// What the page shows while something is missing: the device, the input, the card, a place for it, or its own language.

import assert from 'node:assert/strict';

import { CHROMIUM, Tab, chromium } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

const TONE = '[input.live]\ndevice = "synth:tone"\n';
/** What Chromium itself writes about a request that failed; a page cannot prevent that. */
const FAILED = /^Failed to load resource: /;
const NEEDS = { needs: [CHROMIUM, ...LOUDSPEAKER] };

const stale = (tab) => tab.page.$eval('#main', ({ dataset }) => dataset.stale === 'true');
const shown = (tab, selector) => tab.page.$eval(selector, (element) => element.checkVisibility());
const mistakes = (tab) => tab.complaints.filter((complaint) => !FAILED.test(complaint));

scenario('without the device all that was measured is grey, with the time of the last contact', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start(TONE));
  const wire = await use(Wire.to(daemon.port));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(3);
  const tab = await Tab.open(browser, `http://localhost:${wire.port}/`);
  await tab.ready();
  await until('something to save', () => shown(tab, '#save'));
  assert.equal(await stale(tab), false);

  await daemon.kill();
  await tab.says('Device not reachable. Reconnecting…');
  assert.match(await tab.text('#detail'), /^Last contact at .*\d/);
  assert.equal(await stale(tab), true);
  assert.equal(await shown(tab, '#save'), false, 'nothing can be saved');
  await tab.isAccessible();
  await tab.shoot('gone');

  await daemon.run(TONE);
  await tab.says('Press play to listen');
  assert.deepEqual([await stale(tab), await tab.text('#detail')], [false, '']);

  // A tab that was in the background for a while has no connection, and makes none that it does not need.
  const other = await browser.newPage();
  await other.bringToFront();
  await until('the page to rest', async () => (await tab.page.evaluate(() => document.hidden)) || null);
  await tab.page.bringToFront();
  await until('levels', async () => /\d/.test((await tab.listed('.value'))[0]));
  await tab.says('Press play to listen');
  assert.deepEqual(mistakes(tab), []);
});

scenario('an input that is not there is named, with those that are', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start(`${TONE}[input.roof]\ndevice = "synth:tone"\ntitle = "On the roof"\n`));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(1);
  const tab = await Tab.open(browser, `http://localhost:${daemon.port}/?input=deck`);
  await tab.says('There is no input “deck”.');
  await until('the others', async () => (await tab.listed('#inputs .name')).join() === 'live,On the roof');
  assert.equal(await tab.page.$eval('#play', ({ disabled }) => disabled), true);
  for (const untrue of ['#meters', '#past', '.apps', '.facts']) assert.equal(await shown(tab, untrue), false, untrue);
  await tab.isAccessible();
  await tab.shoot('missing');
  await tab.page.click('#inputs [value="roof"]');
  await tab.says('Press play to listen to “On the roof”');
  assert.equal(await tab.text('#title'), 'On the roof');
  assert.equal(await tab.page.title(), 'On the roof');
  assert.equal(await shown(tab, '.apps'), true);
  assert.deepEqual(mistakes(tab), []);
});

scenario('play waits for a card without asking again and again, and begins when there is one', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "hw:CARD=NoSuchCard"\n'));
  const wire = await use(Wire.to(daemon.port));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  const tab = await Tab.open(browser, `http://localhost:${wire.port}/`);
  await tab.says(/^No sound card yet$|^The sound card cannot be opened\.$/);
  assert.equal(await shown(tab, '.levels'), false);
  await tab.page.click('#play');
  await tab.inState('connecting');
  await tab.isAccessible();
  await tab.shoot('nocard');
  assert.deepEqual(wire.asked('/live.wav'), []);
  daemon.reload(TONE);
  await tab.says('Listening live');
  assert.deepEqual(tab.complaints, []);
});

scenario('a page for which there is no place says so, and gets the place of one that was closed', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start(`[listeners]\nmax = 1\n${TONE}`));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(1);
  const first = await Tab.open(browser, `http://localhost:${daemon.port}/`);
  await first.ready();
  // A page of another origin's browser, so that the first one stays in front.
  const other = await use(chromium(await use(Loudspeaker.start())));
  const second = await Tab.open(other, `http://localhost:${daemon.port}/?input=live`);
  await second.says('Too many pages are open on this device. Trying again…');
  await second.isAccessible();
  await first.close();
  await second.says('Press play to listen');
  assert.deepEqual([...mistakes(first), ...mistakes(second)], []);
});

scenario('an embedded page is a player alone', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start(TONE));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(1);
  const tab = await Tab.open(browser, `http://localhost:${daemon.port}/embed?input=live`);
  await tab.ready();
  for (const part of ['#past', '.apps', '.facts', '#share']) assert.equal(await shown(tab, part), false, part);
  await tab.press('#play');
  await tab.says('Listening live');
  assert.equal(await shown(tab, '#meters'), true);
  await tab.page.setViewport({ width: 420, height: 210 });
  const height = await tab.page.evaluate(() => document.documentElement.scrollHeight);
  assert.ok(height <= 210, `${height} px`);
  await tab.isAccessible();
  assert.deepEqual(tab.complaints, []);
});

scenario('a German browser has a German page', NEEDS, async (t, use) => {
  const card = await use(Card.make());
  const daemon = await use(Daemon.start('[input.live]\ndevice = "fake"\n', card));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(1);
  const page = await browser.newPage();
  await page.evaluateOnNewDocument(() => Object.defineProperty(navigator, 'languages', { get: () => ['de-CH', 'en'] }));
  await page.goto(`http://localhost:${daemon.port}/`);
  const status = () => page.$eval('#status', ({ textContent }) => textContent);
  await until('the page', async () => await status() === 'Zum Hören Wiedergabe drücken');
  assert.equal(await page.$eval('html', ({ lang }) => lang), 'de');
  await page.click('#play');
  await until('the delay', async () => /^\d,\d+ s Verzögerung$/.test(await page.$eval('#delay', ({ textContent }) => textContent)));
});

scenario('play, level and delay are above the fold on a phone, and no width makes the page scroll sideways', NEEDS, async (t, use) => {
  const daemon = await use(Daemon.start(TONE));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(3);
  const tab = await Tab.open(browser, `http://localhost:${daemon.port}/`);
  await tab.ready();
  await tab.press('#play');
  await tab.figures();
  for (const [width, height, also] of [[360, 740, '#timeline'], [740, 360, '#volume'], [1280, 800, '#timeline'], [1920, 1080, '#pitches'], [320, 640, '#meters']]) {
    await tab.page.setViewport({ width, height });
    const bottom = await tab.page.evaluate((selectors) => (
      Math.max(...selectors.map((selector) => document.querySelector(selector).getBoundingClientRect().bottom))
    ), ['#play', '#meters', '#delay', also]);
    assert.ok(bottom <= height, `${bottom} of ${height} px at ${width}`);
    const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${wide} of ${width} px`);
  }
});
