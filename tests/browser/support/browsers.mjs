// The distribution's browsers, and actions of a user in a browser.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { launch as puppeteer } from 'puppeteer-core';

import { PATIENCE_MS, answerTo, find, once, until } from './scenario.mjs';

/** Program names of each browser on Debian, Raspberry Pi OS and elsewhere. */
export const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome'];
export const FIREFOX = ['firefox-esr', 'firefox'];
/**
 * A name of this machine that browsers do not treat as local, so that it is an insecure origin, like
 * `http://raspberrypi`, and that the daemon treats as a name of the local network.
 */
export const INSECURE_HOST = 'wavecast.local';

const QUIET = [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--no-first-run',
];

/** Starts Chromium, which plays to `speaker`, saves downloads to `saves`, and runs in the time zone `zone`. */
export function chromium(speaker, { saves, zone } = {}) {
  return puppeteer({
    browser: 'chrome',
    protocolTimeout: PATIENCE_MS,
    executablePath: find(CHROMIUM),
    env: { ...process.env, ...speaker.env, ...(zone && { TZ: zone }) },
    ...(saves && { downloadBehavior: { policy: 'allow', downloadPath: saves } }),
    args: [
      ...QUIET,
      `--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`,
      // Chromium's sandbox does not work for root, which runs tests in a container.
      ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
    ],
    ignoreDefaultArgs: ['--mute-audio'],
  });
}

/** Starts Firefox with the options of `chromium`. */
export function firefox(speaker, { saves, zone } = {}) {
  return puppeteer({
    browser: 'firefox',
    protocolTimeout: PATIENCE_MS,
    executablePath: find(FIREFOX),
    env: { ...process.env, ...speaker.env, ...(zone && { TZ: zone }) },
    extraPrefsFirefox: {
      'network.dns.localDomains': INSECURE_HOST,
      ...(saves && { 'browser.download.folderList': 2, 'browser.download.dir': saves }),
    },
  });
}

const AXE = () => readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A page of the daemon in a browser. */
export class Tab {
  /** The browser's complaints: errors in the console, and violations of the content policy. */
  complaints = [];

  /** Opens an address and waits until the page is loaded. `before` is a function that runs in the page before its scripts. */
  static async open(browser, url, { before } = {}) {
    const tab = new Tab();
    tab.page = await browser.newPage();
    tab.page.setDefaultTimeout(PATIENCE_MS);
    tab.page.on('console', (message) => {
      if (['error', 'warn'].includes(message.type())) tab.complaints.push(message.text());
    });
    tab.page.on('pageerror', (error) => tab.complaints.push(String(error)));
    await tab.page.evaluateOnNewDocument(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`forbidden by ${event.violatedDirective}: ${event.blockedURI}`);
      });
      // The time when the page's button works, from the start of the navigation.
      new MutationObserver(() => {
        if (document.getElementById('main')?.dataset.words) window.readyAt ??= performance.now();
      }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-words'] });
    });
    if (before) await tab.page.evaluateOnNewDocument(before);
    const answer = await answerTo(() => tab.page.goto(url, { timeout: PATIENCE_MS }));
    // Firefox reports 304 for a cached page.
    assert.ok([200, 304].includes(answer.status()), `${answer.status()}`);
    return tab;
  }

  /** Waits until the page knows its input. */
  async ready() {
    await until('the page to be ready', () => this.page.$eval('#main', (main) => main.dataset.words === 'stopped'));
  }

  /** Clicks on an element, and returns the time of the click, by `performance.now()` of this process. */
  async press(selector) {
    await answerTo(() => this.page.$eval(selector, (element) => {
      delete window.clicked;
      element.addEventListener('click', (event) => {
        window.clicked = performance.timeOrigin + event.timeStamp;
      }, { once: true, capture: true });
    }));
    const clicked = () => this.page.evaluate(() => window.clicked);
    await once(() => this.page.click(selector), clicked);
    return await answerTo(clicked) - performance.timeOrigin;
  }

  /** Waits until the player is in a state: stopped, connecting, playing, waiting, interrupted. */
  inState(state) {
    return until(`the page to be ${state}`, () => this.page.$eval('#main', (main, state) => main.dataset.state === state, state));
  }

  /** Waits until the page's status is `text` or matches it. */
  async says(text) {
    let said;
    const right = async () => {
      said = await this.text('#status');
      return text instanceof RegExp ? text.test(said) : said === text;
    };
    await until(`the page to say ${text}`, right).catch((error) => assert.fail(`${error.message}; it says ${said}`));
  }

  /** Returns the delay in ms, and the player's figures with the playback path. */
  figures() {
    return until('the page to know its delay', () => this.page.$eval('#delay', ({ dataset }) => (
      dataset.ms ? { delay: Number(dataset.ms), figures: JSON.parse(dataset.figures) } : null
    )));
  }

  /** Returns the number of dropouts on this page. */
  async gaps() {
    return Number.parseInt(await this.fact('dropouts'), 10) || 0;
  }

  /** Returns the text of an element; `listed` returns the texts of all matching elements. */
  text(selector) {
    return answerTo(() => this.page.$eval(selector, (element) => element.textContent));
  }

  listed(selector) {
    return answerTo(() => this.page.$$eval(selector, (elements) => elements.map((element) => element.textContent)));
  }

  /** Returns a value of the table of facts. */
  fact(name) {
    return this.text(`#${name}`);
  }

  /** Checks accessibility by axe-core's rules, WCAG 2.2 AA among them, in both colour schemes if the browser can. */
  async isAccessible() {
    if (!await this.page.evaluate(() => Boolean(globalThis.axe))) await this.page.evaluate(AXE());
    for (const scheme of await this.#schemes()) {
      await this.#scheme(scheme);
      const { violations } = await this.page.evaluate(() => axe.run());
      const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`);
      assert.deepEqual(found, [], scheme);
    }
    await this.#scheme('light');
  }

  /** Saves screenshots for people to look at, if WAVECAST_SHOTS=FOLDER is set. */
  async shoot(name) {
    const folder = process.env.WAVECAST_SHOTS;
    if (!folder) return;
    mkdirSync(folder, { recursive: true });
    for (const width of [320, 1280]) {
      await this.page.setViewport({ width, height: 800 });
      for (const scheme of await this.#schemes()) {
        await this.#scheme(scheme);
        await pause(250);
        await this.page.screenshot({ path: join(folder, `${name}-${width}-${scheme}.png`), fullPage: true });
      }
    }
    await this.#scheme('light');
  }

  async #schemes() {
    return (await this.page.browser().version()).startsWith('Chrome') ? ['light', 'dark'] : ['light'];
  }

  async #scheme(value) {
    if ((await this.#schemes()).length > 1) await this.page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]);
  }

  /**
   * Adds the browser's own player to the page, presses the space bar on the player, as a keyboard user does, and waits
   * until the sound advances. Returns the time from the key press to the sound, in ms.
   */
  async play(input, { query = '', extension = 'wav' } = {}) {
    this.selector = 'audio';
    await this.page.evaluate(
      (src) => {
        document.querySelector('audio')?.remove();
        const audio = Object.assign(document.createElement('audio'), { controls: true, preload: 'none', src });
        document.body.prepend(audio);
        const seen = (window.seen = { events: [] });
        for (const name of ['play', 'loadstart', 'playing', 'waiting', 'stalled', 'emptied', 'ended', 'error', 'pause']) {
          audio.addEventListener(name, () => seen.events.push(name));
        }
        audio.addEventListener('play', () => {
          const began = performance.now();
          const look = setInterval(() => {
            // In Firefox the very first positions carry no sound yet.
            if (audio.currentTime < 0.1) return;
            // Sound already played is not waiting time.
            seen.started = performance.now() - began - audio.currentTime * 1000;
            clearInterval(look);
          }, 2);
        });
        audio.focus();
      },
      `/${input}.${extension}${query}`,
    );
    // After a new address the controls do not react until the player has loaded it.
    await until('the player to be ready', () => this.page.$eval(this.selector, (audio) => (
      audio.networkState === HTMLMediaElement.NETWORK_IDLE && document.activeElement === audio
    )));
    await this.page.evaluate(() => new Promise((drawn) => {
      requestAnimationFrame(() => requestAnimationFrame(drawn));
    }));
    await this.page.keyboard.press(' ');
    return until(`${input} to play`, () => this.page.evaluate(() => window.seen.started));
  }

  /** Returns the player's clock and the wall clock in seconds, and the player's events so far. */
  now() {
    return answerTo(() => this.page.$eval(this.selector, (audio) => ({
      clock: audio.currentTime,
      wall: performance.now() / 1000,
      buffered: audio.buffered.length > 0 ? audio.buffered.end(audio.buffered.length - 1) : 0,
      error: audio.error?.message ?? null,
      events: window.seen.events,
    })));
  }

  /**
   * Checks that the player's clock keeps pace with the wall clock for `seconds`, and returns their ratio. A machine too
   * busy to play gets further attempts; `playedOn` detects a fault of the stream.
   */
  async playsInRealTime(seconds, attempts = 3) {
    const before = await this.now();
    await pause(seconds * 1000);
    const after = await this.now();
    const speed = (after.clock - before.clock) / (after.wall - before.wall);
    if (speed > 0.95 && speed < 1.05) return speed;
    const what = `${(after.clock - before.clock).toFixed(2)} s of sound in ${(after.wall - before.wall).toFixed(2)} s`;
    assert.ok(attempts > 1, `${what}; ${JSON.stringify(after)}`);
    return this.playsInRealTime(seconds, attempts - 1);
  }

  /** Checks that the player has neither waited nor reloaded since its start. */
  async playedOn() {
    const { events, error } = await this.now();
    assert.deepEqual({ error, last: events.at(-1) }, { error: null, last: 'playing' }, events.join(' '));
    assert.equal(events.filter((event) => event === 'playing').length, 1, events.join(' '));
  }

  /** Waits until the player's clock has advanced by `seconds`. */
  async advances(seconds) {
    const { clock } = await this.now();
    await until(`${seconds} s of sound`, async () => (await this.now()).clock >= clock + seconds);
  }

  close() {
    return this.page.close();
  }
}
