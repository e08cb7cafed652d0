// Steady: the browser's own player, some seconds behind, for a phone in the pocket or a screen that sleeps.
//
// Its sound is never led through Web Audio: iOS gives silence for a live stream there, and stops it in the background.

/** A player that stands still for so long is started anew. */
const STUCK_MS = 8000;
const PAUSE_MS = { first: 500, most: 8000 };
/** So much more behind than at first, in seconds, and it plays faster, or starts anew. */
const LATE = 0.5;
const FAR = 5;

export class Steady {
  #audio = new Audio();
  #tell;
  #name;
  #wanted = false;
  #back = 0;
  #timer = 0;
  #pause = 0;
  #moved = { at: 0, to: 0 };
  #began = 0;
  #usual = Infinity;
  dropouts = 0;
  lastDropout = 0;

  constructor(tell) {
    this.#tell = tell;
    const audio = this.#audio;
    audio.preload = 'none';
    audio.addEventListener('playing', () => {
      if (!this.#wanted) return;
      if (!this.#began) this.#began = performance.now();
      this.#pause = 0;
      this.#tell('playing', { back: this.#back });
    });
    audio.addEventListener('waiting', () => {
      if (!this.#wanted || !this.#began) return;
      this.dropouts++;
      this.lastDropout = performance.now();
      this.#tell('connecting');
    });
    for (const name of ['error', 'ended']) {
      audio.addEventListener(name, () => this.#wanted && audio.getAttribute('src') && this.#later(name));
    }
    // By the system: a call, another player, the headphones pulled out.
    audio.addEventListener('pause', () => {
      if (this.#wanted && !audio.ended && !audio.error) this.stop();
    });
    setInterval(() => this.#look(), 1000);
  }

  /** Plays an input, from `back` seconds ago. Within a click. */
  start(name, back = 0) {
    [this.#name, this.#back, this.#wanted, this.#pause] = [name, back, true, 0];
    this.#load();
  }

  stop(again = false) {
    if (!this.#wanted) return;
    this.#wanted = false;
    clearTimeout(this.#timer);
    this.#audio.pause();
    // Without this it would go on to fetch.
    this.#audio.removeAttribute('src');
    this.#audio.load();
    if (!again) this.#tell('stopped');
  }

  nudge() {
    if (!this.#wanted) return;
    if (this.#timer || performance.now() - this.#moved.at > 3000) this.#load();
  }

  set volume(volume) {
    this.#audio.volume = volume;
  }

  /** What it has beyond what it plays is what it is behind, but for the way here. */
  get figures() {
    const { buffered, currentTime } = this.#audio;
    if (!this.#began || buffered.length === 0) return null;
    const ahead = buffered.end(buffered.length - 1) - currentTime;
    return { delay: 1000 * ahead, back: this.#back, way: 'steady' };
  }

  #load() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const audio = this.#audio;
    [this.#began, this.#usual] = [0, Infinity];
    this.#moved = { at: performance.now(), to: 0 };
    audio.playbackRate = 1;
    audio.src = `${this.#name}.wav${this.#back > 0 ? `?back=${this.#back}` : ''}`;
    this.#tell('connecting');
    audio.play().catch((error) => {
      // Without a click, or with another start on the heels of this one.
      if (error.name === 'NotAllowedError' && this.#wanted) this.stop();
    });
  }

  #later(cause) {
    this.#back = 0;
    this.#pause = cause === 'ended' && this.#began ? 50 : Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
    this.#tell('waiting', { cause: cause === 'ended' ? 'ended' : 'lost' });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), this.#pause * (0.75 + Math.random() / 2));
  }

  #look() {
    if (!this.#wanted || this.#timer) return;
    const [audio, now] = [this.#audio, performance.now()];
    if (audio.currentTime !== this.#moved.to) this.#moved = { at: now, to: audio.currentTime };
    else if (now - this.#moved.at > STUCK_MS) return this.#later('stuck');
    const figures = this.figures;
    if (!figures || this.#back > 0) return;
    const delay = figures.delay / 1000;
    // What it wants in its buffer shows in its first seconds.
    if (now - this.#began < 5000) this.#usual = Math.min(this.#usual, Math.max(delay, 0.5));
    else if (delay > this.#usual + FAR) this.#load();
    else if (delay > this.#usual + LATE) audio.playbackRate = 1.1;
    else if (delay < this.#usual + LATE / 4) audio.playbackRate = 1;
  }
}
