// WebKitGTK, whose engine is that of Safari, by its WebDriver (https://www.w3.org/TR/webdriver2/): what the tests use of
// puppeteer's interface, as puppeteer does not know this browser.

import { spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { end, folder, until } from './scenario.mjs';

export const WEBKIT = ['WebKitWebDriver', 'Xvfb'];

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const KEYS = { Enter: '\uE007', ' ': ' ' };

/**
 * Starts it, on a screen of its own. It plays to that loudspeaker. With `proxy`, a port of this machine, it asks that for
 * names that are not this machine's; a daemon takes such questions, which is how it gets an insecure origin.
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
      // Without a desktop and a graphics card.
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

/** The browser that belongs to the driver: beside the library, in a folder that has its version in its name. */
function miniBrowser() {
  const root = '/usr/lib';
  const folders = readdirSync(root).filter((name) => name.includes('-linux-')).flatMap((name) => (
    readdirSync(join(root, name)).filter((name) => name.startsWith('webkit2gtk-')).map((library) => join(root, name, library))
  ));
  return folders.flatMap((path) => readdirSync(path).filter((name) => name === 'MiniBrowser').map((name) => join(path, name)))[0];
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

class Browser {
  #address;
  #stop;
  #session;
  // Commands go one after the other: each is for the window that was switched to.
  #last = Promise.resolve();
  #current;
  // The window that it begins with.
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

  /** A command for a window. */
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
    // The driver does not tell more; a page that is not there is one without the element that is looked for next.
    return { status: () => 200 };
  }

  /** Runs a function there, or a text; what it, or its promise, returns. */
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

  /** As a person does: it counts as a gesture. */
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
    // The last one stays, or the session would end with it.
    return this.#command('POST', '/url', { url: 'about:blank' });
  }

  // WebKit has no counterpart to these.
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
