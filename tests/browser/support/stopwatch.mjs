// Time as this machine had it. See tests/support/stopwatch.rs.

import { readFileSync } from 'node:fs';

/** Measures how long something takes, without the time that the host of a virtual machine gave to others meanwhile. */
export class Stopwatch {
  #began = performance.now();
  #stolen = stolen();

  /** Returns the time since the start in ms, without the time that the host took from the core from which it took most. */
  elapsed() {
    return this.byTheClock() - this.stolen();
  }

  byTheClock() {
    return performance.now() - this.#began;
  }

  stolen() {
    return Math.max(...stolen().map((ms, core) => ms - (this.#stolen[core] ?? ms)));
  }
}

/** Returns the time that the host took from each core since the machine was started, in ms: `steal` in proc_stat(5). */
function stolen() {
  const cores = readFileSync('/proc/stat', 'latin1').split('\n').filter((line) => /^cpu\d/.test(line));
  return cores.map((line) => 10 * Number(line.split(' ')[8] ?? 0));
}
