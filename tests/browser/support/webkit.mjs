// WebKitGTK, which has the engine of Safari, by its WebDriver (https://www.w3.org/TR/webdriver2/): the part of
// puppeteer's interface that the tests use, as puppeteer does not support this browser.

import { spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { end, folder, freePort, until } from './scenario.mjs';

export const WEBKIT = ['WebKitWebDriver', 'Xvfb'];

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const KEYS = { Enter: '\uE007', ' ': ' ' };

/**
 * Starts the browser on a virtual screen, with sound to `speaker`. With `proxy`, a port of this machine, the browser asks
 * that port for names of other machines; a daemon answers such requests, so the test gets an insecure origin.
 */
export async function webkit(speaker, { proxy } = {}) {
  const home = folder();
  const screen = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x900x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const display = await new Promise((resolve) => {
    screen.stdio[3].once('data', (text) => resolve(String(text).trim()));
  });
  const port = await freePort();
  const driver = spawn('WebKitWebDriver', [`--port=${port}`], {
    env: {
      ...process.env, ...speaker.env, DISPLAY: `:${display}`, HOME: home.path, XDG_RUNTIME_DIR: home.path,
      // Settings for a machine without a desktop and a graphics card.
      GDK_BACKEND: 'x11', GTK_A11Y: 'none', NO_AT_BRIDGE: '1', WEBKIT_DISABLE_DMABUF_RENDERER: '1',
    },
    stdio: 'ignore',
  });
  const started = [driver, screen];
  process.once('exit', () => started.forEach((child) => child.kill('SIGKILL')));
  const browser = new Browser(`http://127.0.0.1:${port}`, async () => {
    for (const child of started) await end(child);
    home.remove();
  });
  await until('the driver', () => browser.ask('GET', '/status').then((status) => status.ready, () => false));
  await browser.begin(proxy && { proxyType: 'manual', httpProxy: `127.0.0.1:${proxy}` });
  return browser;
}

/** Returns the path of the driver's browser: beside the library, in a folder whose name holds the version. */
function miniBrowser() {
  const root = '/usr/lib';
  const folders = readdirSync(root).filter((name) => name.includes('-linux-')).flatMap((name) => (
    readdirSync(join(root, name)).filter((name) => name.startsWith('webkit2gtk-')).map((library) => join(root, name, library))
  ));
  return folders.flatMap((path) => readdirSync(path).filter((name) => name === 'MiniBrowser').map((name) => join(path, name)))[0];
}

class Browser {
  #address;
  #stop;
  #session;
  // Commands are serialised: each applies to the window that was selected last.
  #last = Promise.resolve();
  #current;
  // The initial window.
  #first;
  #version;

  constructor(address, stop) {
    [this.#address, this.#stop] = [address, stop];
  }

  async begin(proxy) {
    const options = { binary: miniBrowser(), args: ['--automation'] };
    const { sessionId, capabilities } = await this.ask('POST', '/session', {
      capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': options, ...(proxy && { proxy }) } },
    });
    this.#session = `/session/${sessionId}`;
    this.#version = `WebKitGTK ${capabilities.browserVersion}`;
    this.#current = this.#first = await this.ask('GET', `${this.#session}/window`);
    await this.ask('POST', `${this.#session}/timeouts`, { script: 60_000, pageLoad: 60_000 });
  }

  async version() {
    return this.#version;
  }

  async newPage() {
    const handle = this.#first ?? (await this.ask('POST', `${this.#session}/window/new`, { type: 'tab' })).handle;
    this.#first = undefined;
    return new Page(this, handle);
  }

  /** Sends a command for a window. */
  command(handle, method, path, body) {
    const turn = this.#last.then(async () => {
      if (this.#current !== handle) {
        await this.ask('POST', `${this.#session}/window`, { handle });
        this.#current = handle;
      }
      return this.ask(method, this.#session + path, body);
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  async ask(method, path, body) {
    const answer = await fetch(this.#address + path, { method, ...(body && { body: JSON.stringify(body) }) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  }

  async close() {
    await this.ask('DELETE', this.#session).catch(() => {});
    await this.#stop();
  }
}

class Page {
  #browser;
  #handle;

  constructor(browser, handle) {
    [this.#browser, this.#handle] = [browser, handle];
    this.keyboard = { press: (key) => this.#press(key) };
  }

  browser() {
    return this.#browser;
  }

  async goto(url) {
    await this.#command('POST', '/url', { url });
    // The driver reports no status; on a missing page, the next look-up of an element fails.
    return { status: () => 200 };
  }

  /** Runs a function or a script in the page; returns its result, or the value of its promise. */
  evaluate(run, ...values) {
    return this.#run(typeof run === 'string' ? run : `return (${run})(...values)`, values);
  }

  $eval(selector, run, ...values) {
    return this.#run(`
      const element = document.querySelector(${JSON.stringify(selector)});
      if (!element) throw new Error('not there');
      return (${run})(element, ...values)`, values);
  }

  $$eval(selector, run, ...values) {
    return this.#run(`return (${run})([...document.querySelectorAll(${JSON.stringify(selector)})], ...values)`, values);
  }

  async #run(body, values) {
    const script = `const [values, done] = arguments;
      (async () => { ${body} })().then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.#command('POST', '/execute/async', { script, args: [values] });
    if (error) throw new Error(error);
    return value;
  }

  /** Clicks like a user: the click counts as a user gesture. */
  async click(selector) {
    const element = await this.#find(selector);
    await this.#command('POST', `/element/${element}/click`, {});
  }

  async focus(selector) {
    await this.$eval(selector, (element) => element.focus());
  }

  async screenshot({ path }) {
    writeFileSync(path, Buffer.from(await this.#command('GET', '/screenshot'), 'base64'));
  }

  async setViewport({ width, height }) {
    await this.#command('POST', '/window/rect', { width, height });
  }

  close() {
    // The last window must stay open, or the session would end.
    return this.#command('POST', '/url', { url: 'about:blank' });
  }

  // WebKit has no counterpart to these functions.
  setDefaultTimeout() {}
  on() {}
  async evaluateOnNewDocument() {}

  async #press(key) {
    const value = KEYS[key] ?? key;
    const actions = ['keyDown', 'keyUp'].map((type) => ({ type, value }));
    await this.#command('POST', '/actions', { actions: [{ type: 'key', id: 'keyboard', actions }] });
  }

  async #find(selector) {
    const found = await this.#command('POST', '/element', { using: 'css selector', value: selector });
    return found[ELEMENT];
  }

  #command(method, path, body) {
    return this.#browser.command(this.#handle, method, path, body);
  }
}
