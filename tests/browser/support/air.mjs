// A TCP proxy that behaves like a Wi-Fi: it delays, jitters and stalls what the server sends, in order, and may carry only
// so many bits a second.

import { createServer, connect } from 'node:net';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

/**
 * The kinds of air. Times in ms: a constant delay, the mean of an exponential jitter, and two kinds of stalls, each with
 * the mean time from one to the next and the range of its length. `kbits` is what all connections carry together, in
 * kbit/s.
 */
export const AIRS = {
  none: { delay: 0, jitter: 0, stalls: [] },
  good: { delay: 2, jitter: 2, stalls: [{ every: 4000, length: [15, 40] }, { every: 60_000, length: [80, 120] }] },
  home: { delay: 3, jitter: 5, stalls: [{ every: 2000, length: [20, 80] }, { every: 15_000, length: [100, 250] }] },
  far: { delay: 6, jitter: 12, stalls: [{ every: 800, length: [30, 120] }, { every: 8000, length: [200, 500] }] },
  narrow: { delay: 4, jitter: 3, stalls: [{ every: 4000, length: [15, 40] }], kbits: 600 },
};

/** The size in bytes of the pieces that an air with a bit rate carries, as a packet of Ethernet does. */
const PACKET = 1448;
/** The bytes that wait for the air until the proxy stops reading, as the buffers of a router do. */
const MOST_WAITING = 32 * 1024;

/** Repeatable chance: a linear congruential generator. */
export class Chance {
  #seed;

  constructor(seed) {
    this.#seed = seed;
  }

  /** Returns a number from 0 to 1, 1 excluded. */
  next() {
    this.#seed = (Math.imul(this.#seed, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#seed / 2 ** 32;
  }

  /** Returns an exponentially distributed number. */
  exponential(mean) {
    return -Math.log(1 - this.next()) * mean;
  }

  between([least, most]) {
    return least + this.next() * (most - least);
  }
}

/** A proxy on a port of its own. */
export class Air {
  /** The number of stalls so far. */
  stalls = 0;
  #chance;
  #kind;
  #timers = new Set();
  #connections = new Set();
  // The time until which nothing passes, and the time at which the bits sent so far are through.
  #silentUntil = 0;
  #freeAt = 0;

  /** Starts a proxy in front of `port`. */
  static async to(port, kind, seed = 1) {
    const air = new Air();
    air.#chance = new Chance(seed);
    air.become(kind);
    air.server = createServer({ noDelay: true }, (client) => air.#connect(client, port));
    await new Promise((resolve) => air.server.listen(0, '127.0.0.1', resolve));
    air.port = air.server.address().port;
    return air;
  }

  /** Changes the kind of air. */
  become(kind) {
    this.#kind = AIRS[kind];
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    for (const stall of this.#kind.stalls) this.#stallLater(stall);
  }

  close() {
    this.become('none');
    for (const socket of this.#connections) socket.destroy();
    return new Promise((resolve) => this.server.close(resolve));
  }

  #stallLater({ every, length }) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.stalls++;
      this.#silentUntil = Math.max(this.#silentUntil, performance.now() + this.#chance.between(length));
      this.#stallLater({ every, length });
    }, this.#chance.exponential(every));
    this.#timers.add(timer);
  }

  #connect(client, port) {
    const server = connect({ port, host: '127.0.0.1', noDelay: true });
    client.pipe(server);
    const waiting = [];
    let [last, bytes, timer, ended] = [0, 0, null, false];
    const send = () => {
      timer = null;
      for (;;) {
        if (waiting.length === 0) {
          if (ended) client.end();
          return;
        }
        const wait = Math.max(waiting[0].due, this.#silentUntil) - performance.now();
        if (wait > 0) {
          timer = setTimeout(send, wait);
          return;
        }
        const { data } = waiting.shift();
        client.write(data);
        bytes -= data.length;
        if (bytes < MOST_WAITING / 2) server.resume();
      }
    };
    const carry = (data) => {
      const { delay, jitter, kbits } = this.#kind;
      const now = performance.now();
      if (kbits) this.#freeAt = Math.max(this.#freeAt, this.#silentUntil, now) + data.length * 8 / kbits;
      last = Math.max(last, (kbits ? this.#freeAt : now) + delay + this.#chance.exponential(jitter));
      waiting.push({ due: last, data });
      bytes += data.length;
      if (bytes > MOST_WAITING) server.pause();
      timer ??= setTimeout(send, last - now);
    };
    server.on('data', (data) => {
      const size = this.#kind.kbits ? PACKET : data.length;
      for (let at = 0; at < data.length; at += size) carry(data.subarray(at, at + size));
    });
    server.on('end', () => {
      ended = true;
      timer ??= setTimeout(send, 0);
    });
    const gone = () => {
      clearTimeout(timer);
      for (const socket of [client, server]) {
        this.#connections.delete(socket);
        socket.destroy();
      }
    };
    for (const socket of [client, server]) {
      this.#connections.add(socket);
      socket.on('error', gone);
    }
    client.on('close', gone);
    // The server's end must reach the client after what waits before it.
    server.on('close', () => ended || gone());
  }
}

/** An air on a thread of its own, so that the work of a test does not stall it. */
export class AirApart {
  /** Starts a proxy in front of `port`. */
  static async to(port, kind, seed = 1) {
    const air = new AirApart();
    air.worker = new Worker(new URL(import.meta.url), { workerData: { port, kind, seed } });
    air.port = await new Promise((resolve, reject) => {
      air.worker.once('message', resolve);
      air.worker.once('error', reject);
    });
    return air;
  }

  become(kind) {
    this.worker.postMessage(kind);
  }

  close() {
    return this.worker.terminate();
  }
}

if (!isMainThread) {
  const { port, kind, seed } = workerData;
  const air = await Air.to(port, kind, seed);
  parentPort.on('message', (kind) => air.become(kind));
  parentPort.postMessage(air.port);
}
