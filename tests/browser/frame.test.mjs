// The page in a frame of another origin, as a dashboard of Home Assistant shows it: only where `[access] frames` names it.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';

import { CHROMIUM, chromium } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';

/** Serves a page that shows an address in a frame. */
async function dashboard(use, url) {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(`<!doctype html><title>Dashboard</title><iframe src="${url}" width="600" height="400"></iframe>`);
  });
  await new Promise((listening) => server.listen(0, 'localhost', listening));
  await use({ close: () => server.close() });
  return `http://localhost:${server.address().port}`;
}

scenario('a dashboard of another origin shows the page and plays where it is named, and nowhere else', {
  needs: [CHROMIUM, ...LOUDSPEAKER],
}, async (t, use) => {
  const config = (frames) => `[access]\nframes = [${frames}]\n[input.live]\ndevice = "synth:tone"\n`;
  const daemon = await use(Daemon.start(config('')));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(1);
  const origin = await dashboard(use, `http://127.0.0.1:${daemon.port}/embed?input=live`);
  const frame = async () => {
    const page = await browser.newPage();
    await page.goto(`${origin}/`);
    return until('the frame', () => page.frames().find((one) => one !== page.mainFrame() && one.url() !== 'about:blank'));
  };
  assert.match((await frame()).url(), /^chrome-error:/);

  await daemon.reload(config(`"${origin}"`));
  const allowed = await until('the rule of the reload', async () => {
    const one = await frame();
    return one.url().includes('/embed') && one;
  });
  await (await allowed.waitForSelector('#play')).click();
  await until('a listener', async () => (await daemon.status()).listeners.length === 1);
  await until('sound', async () => await allowed.$eval('#status', ({ textContent }) => textContent) === 'Listening live');
});
