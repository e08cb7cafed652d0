// The built daemon and the fake sound card, as child processes with their own folders.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { end, folder, until } from './scenario.mjs';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const PROGRAM = process.env.WAVECAST ?? join(ROOT, 'target/debug/wavecast');

/** A running daemon on a free port of the loopback. */
export class Daemon {
  log = [];

  /** Starts a daemon with the tables in `config`, and waits until it listens. With `card` the daemon sees only that card. */
  static async start(config, card) {
    assert.ok(existsSync(PROGRAM), `${PROGRAM} is not built: cargo build, or set WAVECAST`);
    const daemon = new Daemon();
    daemon.folder = folder();
    daemon.file = join(daemon.folder.path, 'wavecast.toml');
    daemon.env = { ...process.env, ...card?.env };
    delete daemon.env.RUST_LOG;
    delete daemon.env.JOURNAL_STREAM;
    daemon.port = 0;
    process.once('exit', () => daemon.child?.kill('SIGKILL'));
    await daemon.run(config);
    return daemon;
  }

  /** Starts the process; after `kill`, the daemon gets its previous address. */
  async run(config) {
    this.#configure(config);
    this.log.length = 0;
    this.child = spawn(PROGRAM, ['--config', this.file], { env: this.env, stdio: ['ignore', 'ignore', 'pipe'] });
    createInterface(this.child.stderr).on('line', (line) => this.log.push(line));
    const address = await until('the daemon to listen', () => {
      assert.equal(this.child.exitCode, null, `the daemon ended: ${this.log.join('\n')}`);
      return this.log.map((line) => /open http:\/\/([^/]+):(\d+)\//.exec(line)).find(Boolean);
    });
    this.port = Number(address[2]);
  }

  /** Reloads the daemon with another configuration. */
  reload(config) {
    this.#configure(config);
    this.child.kill('SIGHUP');
  }

  /** Kills the daemon without a shutdown, like a power cut. */
  kill() {
    return end(this.child, 'SIGKILL');
  }

  #configure(config) {
    writeFileSync(this.file, `[http]\nlisten = "127.0.0.1:${this.port}"\n${config}`);
  }

  async status() {
    const answer = await fetch(`http://127.0.0.1:${this.port}/status.json`);
    return answer.json();
  }

  /** Waits until an input is in a state (`waiting`, `capturing`, `lost`). */
  async inState(name, state) {
    return until(`${name} to be ${state}`, async () => {
      const { inputs } = await this.status();
      return inputs.find((input) => input.name === name && input.state === state);
    });
  }

  /** Waits until the history of every input holds `seconds` s, which players may fetch at once. */
  async remembers(seconds) {
    await until(`${seconds} s of sound to be kept`, async () => {
      const { inputs } = await this.status();
      return inputs.every(({ frames, format }) => frames >= format?.rate * seconds);
    });
  }

  /** Waits until the last listener has left. */
  nobodyListens() {
    return until('the listeners to leave', async () => (await this.status()).listeners.length === 0);
  }

  /** Ends the daemon, and checks its exit code. */
  async close() {
    const code = await end(this.child);
    this.folder.remove();
    assert.equal(code, 0, `the daemon's end: ${this.log.join('\n')}`);
  }
}

/** A fake sound card, `tests/support/fakecard.c`: device `fake`, and `fakeraw` if the card has a sound. */
export class Card {
  /** Builds the card. `record(path)` may write interleaved 16-bit samples to `path` for `fakeraw` to play in a loop. */
  static async make(record, ...settings) {
    const card = new Card();
    card.folder = folder();
    await record?.(join(card.folder.path, 'sound.raw'));
    execFileSync(join(ROOT, 'scripts/fake-card'), [card.folder.path, ...settings], { stdio: 'pipe' });
    card.env = { ALSA_CONFIG_PATH: join(card.folder.path, 'asound.conf') };
    return card;
  }

  /** Sends a command to a device: `unplug`, `run`, or another command of `fakecard.c`. */
  command(word, device = 'fake') {
    const file = join(this.folder.path, device, 'ctl');
    writeFileSync(`${file}.new`, word);
    renameSync(`${file}.new`, file);
  }

  close() {
    this.folder.remove();
  }
}
