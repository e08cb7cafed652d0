// A real Icecast that a daemon pushes to, as a child process with its own folder.

import { spawn } from 'node:child_process';
import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { end, folder, freePort, until } from './scenario.mjs';

export const ICECAST = ['icecast2'];
export const PASSWORD = 'hackme-it-is-secret';

/** A running Icecast on a free port of the loopback. */
export class Icecast {
  log = [];

  /** Starts an Icecast, and waits until it answers. The burst is that of config/icecast for MP3. */
  static async start() {
    const icecast = new Icecast();
    icecast.folder = folder();
    const { path } = icecast.folder;
    // Icecast does not run as root, and changes to another user.
    chmodSync(path, 0o777);
    const owner = process.getuid() === 0 ? '<changeowner><user>nobody</user><group>nogroup</group></changeowner>' : '';
    icecast.port = await freePort();
    const file = join(path, 'icecast.xml');
    writeFileSync(file, `<icecast><location>test</location><admin>a@localhost</admin><hostname>127.0.0.1</hostname>
      <limits><clients>100</clients><sources>10</sources><queue-size>4194304</queue-size>
        <burst-on-connect>1</burst-on-connect><burst-size>262144</burst-size></limits>
      <authentication><source-password>${PASSWORD}</source-password>
        <admin-user>admin</admin-user><admin-password>admin</admin-password></authentication>
      <listen-socket><port>${icecast.port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
      <fileserve>0</fileserve><paths><basedir>/usr/share/icecast2</basedir><logdir>${path}</logdir>
        <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
      <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>2</loglevel></logging>
      <security><chroot>0</chroot>${owner}</security></icecast>`);
    const run = () => {
      icecast.child = spawn('icecast2', ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'] });
      icecast.child.stderr.on('data', (text) => icecast.log.push(`${text}`));
    };
    run();
    process.once('exit', () => icecast.child.kill('SIGKILL'));
    await until('Icecast to answer', async () => {
      const { exitCode, signalCode, pid } = icecast.child;
      if (exitCode !== null) throw new Error(`Icecast ended: ${icecast.log.join('')}`);
      // A crash at its start is Icecast's own.
      if (signalCode !== null) run();
      if (!haveAllThreadsSlept(pid)) return false;
      return fetch(icecast.url('/status.xsl')).then((answer) => answer.ok, () => false);
    });
    return icecast;
  }

  /** Returns the address of a mount or of a page. */
  url(path) {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  async close() {
    await end(this.child);
    this.folder.remove();
  }
}

/**
 * Returns whether each thread of a process has waited for something once. Icecast 2.4.4 listens before its thread of
 * statistics runs, and a source that comes at that moment ends it.
 */
function haveAllThreadsSlept(pid) {
  const tasks = `/proc/${pid}/task`;
  try {
    return readdirSync(tasks).every((task) => (
      /^voluntary_ctxt_switches:\t[1-9]/m.test(readFileSync(join(tasks, task, 'status'), 'utf8'))
    ));
  } catch {
    return false; // A thread or the process has ended meanwhile.
  }
}
