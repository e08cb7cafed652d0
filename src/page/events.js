// What the server says of an input as it happens, and what that tells about its clock.

const SILENT_MS = 4000;
const PAUSE_MS = { first: 500, most: 8000 };
const WINDOW_MS = 30_000;

export class Events {
  /** The last of each kind; null before the first. */
  hello = null;
  state = null;
  /** When the state was told, in the page's time. */
  stateAt = 0;
  levels = null;
  connected = false;
  #tell;
  #input = null;
  #source = null;
  #timer = 0;
  #pause = 0;
  #last = 0;
  /** How much later than sent events come, least first; and half of what a small request takes. */
  #offsets = [];
  #way = 0;

  /** `tell(kind)` hears of `hello`, `state`, `levels`, `connection` when that is gone, and `refused`. */
  constructor(tell) {
    this.#tell = tell;
    setInterval(() => {
      if (this.#source && performance.now() - this.#last > SILENT_MS) this.#lost();
    }, 1000);
  }

  /** Listens to what is said of that input, `null` for the first one. */
  watch(input) {
    if (input !== this.#input) [this.state, this.levels] = [null, null];
    this.#input = input;
    this.#close();
    this.#pause = 0;
    this.#open();
  }

  /** Listens to nothing until it is nudged, and keeps what it knows. */
  rest() {
    this.#close();
  }

  /** Looks again at once, if it has to wait. */
  nudge() {
    if (this.connected) return;
    this.#close();
    this.#pause = 0;
    this.#open();
  }

  /** The page's time (ms) at which a frame of a stream was captured; null while that is not known. */
  captured(stream, frame) {
    if (!this.levels || !this.state?.format || this.state.stream !== stream) return null;
    const server = this.levels.time - (this.levels.frame - frame) / this.state.format.rate * 1000;
    return server + this.#least() - this.#way;
  }

  #least() {
    return this.#offsets.reduce((least, { ms }) => Math.min(least, ms), Infinity);
  }

  #open() {
    const source = this.#source = new EventSource(this.#input ? `${this.#input}/levels` : 'levels');
    this.#last = performance.now();
    const on = (kind, take) => source.addEventListener(kind, (event) => {
      if (source !== this.#source) return;
      this.#last = performance.now();
      take(JSON.parse(event.data));
    });
    on('hello', (hello) => {
      this.hello = hello;
      this.#pause = 0;
      this.#offsets = [];
      this.connected = true;
      this.#measureWay();
      this.#tell('hello');
    });
    on('state', (state) => {
      if (state.stream !== this.state?.stream) this.levels = null;
      [this.state, this.stateAt] = [state, this.#last];
      this.#tell('state');
    });
    on('message', (levels) => {
      this.levels = levels;
      const [now, late] = [this.#last, this.#last - levels.now];
      // Of many that came later than an older one, only that is needed.
      this.#offsets = this.#offsets.filter(({ at, ms }) => now - at < WINDOW_MS && ms < late);
      this.#offsets.push({ at: now, ms: late });
      this.#tell('levels');
    });
    source.onerror = () => {
      if (source !== this.#source) return;
      // The browser gives up on an answer that is none of events, and comes back to all that ended.
      const refused = source.readyState === EventSource.CLOSED;
      this.#lost();
      if (refused) this.#tell('refused');
    };
  }

  #lost() {
    this.#close();
    this.#tell('connection');
    this.#pause = Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
    // Not all pages at the same time.
    this.#timer = setTimeout(() => this.#open(), this.#pause * (0.75 + Math.random() / 2));
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.connected = false;
  }

  /** An event is on its way for half as long as a small question and its answer. */
  async #measureWay() {
    let least = Infinity;
    for (let i = 0; i < 4; i++) {
      const began = performance.now();
      try {
        await fetch('@page/style.css', { method: 'HEAD', cache: 'no-store' });
        least = Math.min(least, performance.now() - began);
      } catch {
        break;
      }
    }
    if (least < 1000) this.#way = least / 2;
  }
}
