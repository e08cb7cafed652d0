// The CPU time of a browser.

import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

/** Returns the share of one core that a process and its descendants use, measured over `seconds`. */
export async function load(pid, seconds) {
  const [before, began] = [ticks(pid), performance.now()];
  await pause(seconds * 1000);
  return (ticks(pid) - before) / 100 / ((performance.now() - began) / 1000);
}

/** Returns the CPU time of the process tree in 1/100 s (proc_pid_stat(5), in Linux's usual clock ticks). */
function ticks(root) {
  const all = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // The name, in parentheses, may contain spaces.
      const fields = readFileSync(`/proc/${name}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');
      all.set(Number(name), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
    } catch {
      // The process has ended meanwhile.
    }
  }
  const belongs = (pid) => pid === root || (all.has(pid) && belongs(all.get(pid).parent));
  return [...all.keys()].filter(belongs).reduce((sum, pid) => sum + all.get(pid).ticks, 0);
}
