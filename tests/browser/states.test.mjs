// Every button and every state of the page: texts, effects and accessibility.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';

const CONFIG = `
[input.yard]
device = "fake"
[input.roof]
device = "synth:tone"
channels = 1
`;

for (const { name, programs, launch, host } of [
  { name: 'Chromium on a secure origin', programs: CHROMIUM, launch: chromium, host: 'localhost' },
  { name: 'Chromium on an insecure one', programs: CHROMIUM, launch: chromium, host: INSECURE_HOST },
  { name: 'Firefox on a secure origin', programs: FIREFOX, launch: firefox, host: 'localhost' },
  { name: 'Firefox on an insecure one', programs: FIREFOX, launch: firefox, host: INSECURE_HOST },
]) {
  scenario(`${name} has a page of which every button works and every state is told`, {
    needs: [programs, ...LOUDSPEAKER],
  }, async (t, use) => {
    const card = await use(Card.make());
    const daemon = await use(Daemon.start(CONFIG, card));
    const browser = await use(launch(await use(Loudspeaker.start())));
    await daemon.remembers(6);
    const tab = await Tab.open(browser, `http://${host}:${daemon.port}/`);
    const listens = async () => (await daemon.status()).listeners.map(({ input }) => input);
    const state = async (words, name) => {
      await tab.says(words);
      await tab.isAccessible();
      await tab.shoot(name);
    };

    // Before playback: meters and facts.
    await state('Press play to hear “yard” now.', 'stopped');
    assert.deepEqual(await tab.listed('#meters li span:first-child'), ['Left', 'Right']);
    await until('the level', async () => /^(−\d+\.\d|0\.0)$/.test((await tab.listed('canvas + span'))[0]));
    assert.equal(await tab.fact('card'), 'fake');
    assert.equal(await tab.fact('format'), '44.1\u00a0kHz, stereo, 16\u00a0bit');
    assert.deepEqual(await listens(), []);
    // The ramp reaches full scale in each cycle.
    await until('the clip lamp', async () => (await tab.listed('.lit')).length === 2);
    await tab.page.click('.lamp');
    assert.deepEqual(await tab.listed('#input option'), ['yard', 'roof']);

    // Live playback, started by the keyboard.
    await tab.page.focus('#play');
    await tab.page.keyboard.press('Enter');
    await state('You hear “yard” live.', 'live');
    await until('the delay', async () => /^\d+ ms behind the room$/.test(await tab.text('#delay')));
    assert.deepEqual(await listens(), ['yard']);
    assert.equal(await tab.fact('listeners'), '1');
    await until('the spectrogram', async () => (await tab.text('#caption')).startsWith('Pitches'));

    // A jump back, and the return to live.
    await tab.page.click('#jumps [value="5"]');
    await state('You hear what was 5 s ago.', 'back');
    await until('the time', async () => /^at .*\d/.test(await tab.text('#delay')));
    await pause(300);
    const back = await tab.figures();
    assert.ok(back.delay > 4900 && back.delay < 5400, `${back.delay} ms`);
    await tab.page.click('#tolive');
    await tab.says('You hear “yard” live.');
    assert.ok((await tab.figures()).delay < 300);

    // Another input, whose name appears in the address.
    await tab.page.select('#input', 'roof');
    await tab.says('You hear “roof” live.');
    assert.equal(new URL(tab.page.url()).search, '?input=roof');
    assert.deepEqual(await listens(), ['roof']);
    await until('its meter', async () => (await tab.listed('#meters li span:first-child')).join() === 'Mono');

    // Steady playback, and its persistence across a reload.
    await tab.page.click('[value="steady"]');
    await state('You hear “roof” live.', 'steady');
    await until('the delay', async () => /^about \d\.\d s behind the room$/.test(await tab.text('#delay')));
    await tab.page.click('#jumps [value="5"]');
    await tab.says('You hear what was 5 s ago.');
    await tab.page.click('#tolive');
    await tab.says('You hear “roof” live.');
    await tab.page.click('#play');
    await tab.says('Press play to hear “roof” now.');
    await daemon.nobodyListens();
    await tab.page.reload();
    await tab.says('Press play to hear “roof” now.');
    assert.equal(await tab.page.$eval('[value="steady"]', (radio) => radio.checked), true);

    // An unplugged card during playback.
    await tab.page.click('[value="live"]');
    await tab.page.select('#input', 'yard');
    await tab.page.click('#play');
    await tab.says('You hear “yard” live.');
    card.command('unplug');
    await state(/^The sound card was unplugged [1-9] s ago, waiting for it\.$/, 'unplugged');
    card.command('run');
    await tab.says('You hear “yard” live.');
    await tab.page.click('#play');
    await tab.says('Press play to hear “yard” now.');
    assert.deepEqual(tab.complaints, []);
  });
}
