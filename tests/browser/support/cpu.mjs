// The processor time of a browser.

import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

/** The share of one core that a process and all that it started take, over so many seconds. */
export async function load(pid, seconds) {
  const [before, began] = [ticks(pid), performance.now()];
  await pause(seconds * 1000);
  return (ticks(pid) - before) / 100 / ((performance.now() - began) / 1000);
}

/** Hundredths of a second (proc_pid_stat(5), in Linux's usual clock ticks) of all of them. */
function ticks(root) {
  const all = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // The name, in parentheses, may have spaces in it.
      const fields = readFileSync(`/proc/${name}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');
      all.set(Number(name), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // The process has ended meanwhile.
    }
  }
  const belongs = (pid) => pid === root || (all.has(pid) && belongs(all.get(pid).parent));
  return [...all.keys()].filter(belongs).reduce((sum, pid) => sum + all.get(pid).ticks, 0);
}
