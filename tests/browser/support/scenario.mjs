// Tests that use daemons, browsers and cards, and close all of them at the end.

import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { tmpdir } from 'node:os';

import { Stopwatch } from './stopwatch.mjs';

/** The time limit for an expected event, on a machine that stalls at times. */
export const PATIENCE_MS = 20_000;
/** The share of a core taken by the host of a virtual machine from which on a stutter of the browser proves nothing. */
const ROBBED = 0.05;
/** The number of attempts in that case. The last attempt always counts. Each retry prints a line "retried". */
const ATTEMPTS = 3;

/**
 * Declares a test.
 *
 * `needs` names programs (each one or a list of alternatives). If a program is missing, the test is skipped with a
 * message, or fails with WAVECAST_ALL_PLAYERS=1. An attempt fails after `seconds`.
 *
 * `run(t, use)` runs the test. `await use(thing)` returns the thing (or the value of a promise) and registers its
 * `close()`, which is called at the end in reverse order. If the test fails, the `log` of each thing is printed.
 *
 * A browser in a virtual machine without CPU time stutters, whatever sound it receives: see ROBBED.
 */
export function scenario(name, { needs = [], seconds = 90 }, run) {
  const missing = needs.filter((program) => !find(program)).map((program) => [program].flat().join(' or '));
  const skip = missing.length > 0 && process.env.WAVECAST_ALL_PLAYERS !== '1' && `not installed: ${missing}`;
  test(name, { skip, timeout: ATTEMPTS * seconds * 1000 }, async (t) => {
    if (missing.length > 0) throw new Error(`not installed: ${missing}`);
    for (let left = ATTEMPTS - 1; ; left--) {
      const watch = new Stopwatch();
      try {
        return await attempt(t, run);
      } catch (error) {
        const robbed = watch.stolen() / watch.byTheClock();
        if (left === 0 || robbed < ROBBED || t.signal.aborted) throw error;
        t.diagnostic(`retried: ${name} (the host took ${(100 * robbed).toFixed(0)} % of a core)`);
        t.diagnostic(`the failure before the retry: ${error.stack}`);
      }
    }
  });
}

async function attempt(t, run) {
  const used = [];
  const use = async (thing) => {
    used.push(await thing);
    return used.at(-1);
  };
  const tell = () => used.forEach(({ log }) => log?.forEach((line) => t.diagnostic(line)));
  // After the timeout, the resources that the test waits for may not end by themselves.
  t.signal.addEventListener('abort', tell);
  try {
    await run(t, use);
  } catch (error) {
    tell();
    throw error;
  } finally {
    t.signal.removeEventListener('abort', tell);
    for (const thing of used.reverse()) await thing.close();
  }
}

/** Returns the path of a program, or of the first installed program of a list. */
export function find(program) {
  const folders = process.env.PATH.split(delimiter);
  const paths = [program].flat().flatMap((name) => folders.map((folder) => join(folder, name)));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The time in ms after which a request to the browser, or its answer, counts as lost. An answer takes milliseconds. */
const LOST_MS = 5000;

/**
 * Returns the result of `look`, and calls `look` again if no answer arrives; `look` must therefore be idempotent. In some
 * thousand requests Firefox loses an answer now and then, while its page goes on.
 */
export async function answerTo(look) {
  for (let tries = 4; ; tries--) {
    const { answer, lost } = await answerOf(look());
    if (!lost) return answer;
    if (tries === 1) throw new Error('the browser does not answer');
  }
}

/** Runs `act` once, although its answer may be lost: `isDone` returns whether `act` took effect. */
export async function once(act, isDone) {
  for (let tries = 4; ; tries--) {
    const { lost } = await answerOf(act());
    if (!lost || await answerTo(isDone)) return;
    if (tries === 1) throw new Error('the browser does not do it');
  }
}

async function answerOf(question) {
  let timer;
  const watch = new Stopwatch();
  const silence = new Promise((resolve) => {
    const look = () => {
      const left = LOST_MS - watch.elapsed();
      if (left > 0) timer = setTimeout(look, Math.max(left, 10));
      else resolve({ lost: true });
    };
    look();
  });
  const heard = await Promise.race([question.then((answer) => ({ answer })), silence]);
  clearTimeout(timer);
  if (heard.lost) console.log(`no answer from the browser within ${LOST_MS} ms`);
  return heard;
}

/** Waits until `look`, which must not change anything, returns a true value, and returns that value. */
export async function until(what, look, patience = PATIENCE_MS) {
  const watch = new Stopwatch();
  for (;;) {
    const found = await answerTo(async () => look());
    if (found) return found;
    if (watch.byTheClock() > patience && watch.elapsed() > patience) throw new Error(`waited ${patience} ms in vain for ${what}`);
    await pause(10);
  }
}

/** Creates an empty folder; returns its path and a function that removes it. */
export function folder() {
  const path = mkdtempSync(join(tmpdir(), 'wavecast-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Ends a child process by `signal`, and by SIGKILL after two seconds. Returns its exit code, null after a signal. */
export async function end(child, signal = 'SIGTERM') {
  if (child.exitCode === null && child.signalCode === null) {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    const insist = setTimeout(() => child.kill('SIGKILL'), 2000);
    await gone;
    clearTimeout(insist);
  }
  return child.exitCode;
}

/** Returns a free port below the ports that the kernel gives to other sockets. */
export async function freePort() {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (free) {
      await new Promise((resolve) => server.close(resolve));
      return port;
    }
  }
}
