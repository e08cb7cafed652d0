// Elapsed time without the time stolen by the host. See tests/support/stopwatch.rs.

import { readFileSync } from 'node:fs';

/** A stopwatch that excludes the time that the host of a virtual machine gave to other machines. */
export class Stopwatch {
  #began = performance.now();
  #stolen = stolen();

  /** Returns the time since the start in ms, without the stolen time of the core with the most stolen time. */
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

/** Returns the stolen time of each core since the boot, in ms: `steal` in proc_stat(5). */
function stolen() {
  const cores = readFileSync('/proc/stat', 'latin1').split('\n').filter((line) => /^cpu\d/.test(line));
  return cores.map((line) => 10 * Number(line.split(' ')[8] ?? 0));
}
