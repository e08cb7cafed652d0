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

/** Returns true if there is sound in the newest columns of the spectrogram. */
const colourful = (tab) => tab.page.$eval('#pitches', (canvas) => {
  // Reading from the page's own canvas again and again would make Chromium complain.
  const copy = new OffscreenCanvas(5, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 5 - canvas.width, 0);
  const { data } = copy.getImageData(0, 0, 5, canvas.height);
  return data.some((value, i) => i % 4 === 0 && value > 60);
});

for (const { name, programs, launch, host } of [
  { name: 'Chromium on a secure origin', programs: CHROMIUM, launch: chromium, host: 'localhost' },
  { name: 'Chromium on an insecure one', programs: CHROMIUM, launch: chromium, host: INSECURE_HOST },
  { name: 'Firefox on a secure origin', programs: FIREFOX, launch: firefox, host: 'localhost' },
  { name: 'Firefox on an insecure one', programs: FIREFOX, launch: firefox, host: INSECURE_HOST },
]) {
  scenario(`${name} has a page of which every button works and every state is told`, {
    needs: [programs, ...LOUDSPEAKER],
    seconds: 150,
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

    // Before playback: meters, facts, and the timeline of the time before the page was opened.
    await state('Press play to listen to “yard”', 'stopped');
    await until('a meter for each channel', async () => (await tab.listed('.channel')).join() === 'Left,Right');
    await until('the level', async () => /^(−\d+\.\d|0\.0)$/.test((await tab.listed('.value'))[0]));
    assert.equal(await tab.fact('card'), 'fake');
    assert.equal(await tab.fact('format'), '44.1\u00a0kHz, stereo, 16\u00a0bit');
    assert.equal(await tab.text('#delay'), '');
    assert.deepEqual(await listens(), []);
    await until('all that is kept', async () => Number(/^Save (\d+) s$/.exec(await tab.text('#save'))?.[1]) >= 6);
    // The ramp reaches full scale in each cycle.
    await until('the clipping in words', async () => /^Clipped at .*\d.*: Left, Right$/.test(await tab.text('#clipped')));
    assert.equal(await tab.page.$eval('#clip', (clip) => clip.hidden), false);
    await tab.page.click('#clear');
    // Both inputs, each with its level and state.
    await until('both inputs', async () => (await tab.listed('#inputs .name')).join() === 'yard,roof');
    await until('the levels of both', () => tab.page.$$eval('#inputs i', (bars) => bars.every(({ style }) => /scaleX\(0\.[1-9]|scaleX\(1/.test(style.transform))));

    // Live playback, started by the keyboard.
    await tab.page.focus('#play');
    await tab.page.keyboard.press('Enter');
    await state('Listening live: yard', 'live');
    await until('the delay', async () => /^\d\.\d+ s delay$/.test(await tab.text('#delay')));
    await until('one listener', async () => (await listens()).join() === 'yard' && (await tab.fact('listeners')) === '1');
    await until('the spectrogram', () => colourful(tab));

    // A step back, and the return to live.
    await tab.page.keyboard.press('ArrowLeft');
    await state('Listening to 5 s ago', 'back');
    await until('the time', async () => /^.*\d.* captured$/.test(await tab.text('#delay')));
    await pause(300);
    const back = await tab.figures();
    assert.ok(back.delay > 4900 && back.delay < 5600, `${back.delay} ms`);
    await tab.page.click('#tolive');
    await tab.says('Listening live: yard');
    await until('the delay of live', async () => (await tab.figures()).delay < 1500);

    // A place on the timeline, by the pointer and by the keyboard.
    const box = await tab.page.$eval('#timeline', (field) => {
      field.scrollIntoView({ block: 'center' });
      const { left, top, width, height } = field.getBoundingClientRect();
      return { left, top, width, height };
    });
    await tab.page.mouse.click(box.left + box.width * 0.9, box.top + box.height / 3);
    await tab.says(/^Listening to [234] s ago$/);
    await tab.page.focus('.playhead');
    await tab.page.keyboard.press('Home');
    await tab.says(/^Listening to \d+ s ago$/);
    await tab.page.keyboard.press('End');
    await tab.says('Listening live: yard');

    // Mute, volume, boost.
    await tab.page.keyboard.press('m');
    await until('it to be mute', () => tab.page.$eval('#mute', (mute) => mute.getAttribute('aria-pressed') === 'true'));
    await tab.page.keyboard.press('m');
    await tab.page.select('#boost', '20');
    await tab.page.keyboard.press('?');
    await until('the list of keys', () => tab.page.$eval('#keys', (keys) => keys.open));
    await state('Listening live: yard', 'keys');
    await tab.page.click('#close');

    // Another input, whose name appears in the address.
    await tab.page.click('#inputs [value="roof"]');
    await tab.says('Listening live: roof');
    assert.equal(new URL(tab.page.url()).search, '?input=roof');
    // The one before leaves when its connection is closed.
    await until('one listener', async () => (await listens()).join() === 'roof');
    await until('its meter', async () => (await tab.listed('.channel')).join() === 'Mono');

    // Background playback, and its persistence across a reload.
    await tab.page.click('[value="background"]');
    await state('Listening live: roof', 'background');
    await until('the delay', async () => /^≈ \d\.\d+ s delay$/.test(await tab.text('#delay')));
    await until('the codec', async () => (await tab.fact('playing')) === 'Opus');
    await until('the spectrogram from the server', () => colourful(tab));
    await tab.page.focus('#play');
    await tab.page.keyboard.press('ArrowLeft');
    await tab.says(/^Listening to [5-8] s ago$/);
    await tab.page.click('#tolive');
    await tab.says('Listening live: roof');
    await tab.page.click('#play');
    await tab.says('Press play to listen to “roof”');
    await daemon.nobodyListens();
    await tab.page.reload();
    await tab.says('Press play to listen to “roof”');
    assert.equal(await tab.page.$eval('[value="background"]', (radio) => radio.checked), true);

    // An unplugged card during playback: the strip says so for those who listen to another input, too.
    await tab.page.click('[value="live"]');
    card.command('unplug');
    await until('the strip to say so', async () => (await tab.listed('#inputs .state')).join() === 'card lost,');
    card.command('run');
    await until('the strip to say so', async () => (await tab.listed('#inputs .state')).join() === ',');
    await tab.page.click('#inputs [value="yard"]');
    await tab.page.click('#play');
    await tab.says('Listening live: yard');
    card.command('unplug');
    await state(/^Sound card unplugged \d+ s ago\. Waiting for it…$/, 'unplugged');
    assert.equal(await tab.page.$eval('#main', ({ dataset }) => dataset.stale), 'true');
    card.command('run');
    await tab.says('Listening live: yard');
    await until('nothing to be grey', () => tab.page.$eval('#main', ({ dataset }) => dataset.stale === 'false'));
    await tab.page.keyboard.press(' ');
    await until('it to stop', () => tab.page.$eval('#main', ({ dataset }) => dataset.state === 'stopped' || null));
    await tab.says('Press play to listen to “yard”');
    assert.deepEqual(tab.complaints, []);
  });
}
