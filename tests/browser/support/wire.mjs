// A TCP proxy between a browser and the daemon, which records every request and answer and can cut connections.

import { createServer, connect } from 'node:net';

/** A proxy on a port of its own. */
export class Wire {
  /** All requests so far, each with the beginning of its answer. */
  exchanges = [];
  #connections = new Set();

  /** Starts a proxy in front of `port`. */
  static async to(port) {
    const wire = new Wire();
    wire.server = createServer((browser) => wire.#connect(browser, connect(port, '127.0.0.1')));
    await new Promise((resolve) => wire.server.listen(0, '127.0.0.1', resolve));
    wire.port = wire.server.address().port;
    return wire;
  }

  /** Returns the requests for a path, with or without a query. */
  asked(path) {
    return this.exchanges.filter(({ target }) => target.split('?')[0] === path);
  }

  /**
   * Cuts all connections like a router that lost its state: with a reset, in the middle of a frame. New connections are
   * accepted.
   */
  reset() {
    for (const { browser, daemon, heard } of this.#connections) {
      // An idle connection is cut at once; otherwise the browser would reuse it.
      if (performance.now() - heard > 300) {
        browser.resetAndDestroy();
        continue;
      }
      daemon.unpipe(browser);
      daemon.once('data', (data) => {
        // Omits the chunk's end, which is two bytes, and one byte of sound. The delay lets the browser read the data.
        browser.write(data.subarray(0, -3));
        setTimeout(() => browser.resetAndDestroy(), 50);
      });
      daemon.resume();
    }
  }

  /** Blocks all traffic without closing connections, as a network failure does. */
  block() {
    this.blocked = true;
    for (const { browser, daemon } of this.#connections) {
      browser.unpipe(daemon).pause();
      daemon.unpipe(browser).pause();
    }
  }

  /** Accepts new connections; the old connections are dead, as a kernel detects in time. */
  unblock() {
    this.blocked = false;
    for (const { browser } of this.#connections) browser.destroy();
  }

  close() {
    for (const { browser } of this.#connections) browser.destroy();
    return new Promise((resolve) => this.server.close(resolve));
  }

  #connect(browser, daemon) {
    const connection = { browser, daemon, heard: 0 };
    this.#connections.add(connection);
    let exchange;
    browser.on('data', (data) => {
      exchange = new Exchange(data);
      this.exchanges.push(exchange);
    });
    daemon.on('data', (data) => {
      connection.heard = performance.now();
      exchange?.answered(data);
    });
    if (this.blocked) browser.pause();
    else browser.pipe(daemon).pipe(browser);
    const gone = () => {
      this.#connections.delete(connection);
      browser.destroy();
      daemon.destroy();
    };
    for (const socket of [browser, daemon]) socket.on('error', gone).on('close', gone);
  }
}

/** A request and its answer so far. Browsers send a request in one piece, and one request at a time. */
class Exchange {
  #answer = Buffer.alloc(0);
  bytes = 0;

  constructor(request) {
    const [first, ...lines] = request.toString('latin1').split('\r\n');
    [this.method, this.target] = first.split(' ');
    this.headers = headers(lines);
  }

  answered(data) {
    this.bytes += data.length;
    if (this.#answer.length < 4096) this.#answer = Buffer.concat([this.#answer, data]);
  }

  /** Returns the answer's status and headers, and the first bytes of its body without the first chunk's size. */
  get answer() {
    const at = this.#answer.indexOf('\r\n\r\n');
    if (at < 0) return undefined;
    const [first, ...lines] = this.#answer.toString('latin1', 0, at).split('\r\n');
    const answer = { status: Number(first.split(' ')[1]), headers: headers(lines) };
    answer.body = this.#answer.subarray(at + 4);
    if (answer.headers['transfer-encoding'] === 'chunked') {
      answer.body = answer.body.subarray(answer.body.indexOf('\r\n') + 2);
    }
    return answer;
  }
}

function headers(lines) {
  const pairs = lines.map((line) => /^([^:]+): *(.*)$/.exec(line)).filter(Boolean);
  return Object.fromEntries(pairs.map(([, name, value]) => [name.toLowerCase(), value]));
}
