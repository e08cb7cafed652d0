// Live: the stream as it comes, from fetch() to the loudspeaker, as little behind the room as can be.
//
// One AudioContext; the sound is resampled here, with a phase that goes on from piece to piece, so that each piece
// begins at an exact sample. What is queued is kept as short as the network allows: the least that was queued in
// half a second is held at a margin by playing up to half a percent faster or slower, and what is far too much is
// skipped, blended over a few milliseconds. The margin grows when sound ran out and shrinks when it never does.

import { Resampler, WavReader } from './sound.js';

const MARGIN = { least: 0.022, first: 0.03, most: 0.4 };
/** Beyond this much too much it is skipped; to be played away it would take too long. */
const SKIP = 0.05;
const WINDOW_MS = 500;
const MOST_FASTER = 0.005;
/** How much of the past is given to the output at once; a page in the background sleeps for up to a second. */
const AHEAD = 1.5;
const BLEND = 0.004;
/** A stream that brings nothing for so long is dead: it brings silence where there is no sound. */
const SILENT_MS = 3000;
const CONNECT_MS = 6000;
const PAUSE_MS = { first: 250, most: 5000 };

/** The two things that a browser may call it, or null where sound cannot be played this way. */
const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
export const supported = Boolean(Context && globalThis.ReadableStream && globalThis.AbortController);

let context = null;
let worklet = null;

/** The page's one context. To be called within a click or a key: elsewhere iOS gives one that is silent. */
function wake() {
  // Where it is known, the silent switch of a phone leaves what is played on purpose alone.
  if (navigator.audioSession) navigator.audioSession.type = 'playback';
  if (!context) {
    context = new Context({ latencyHint: 'interactive' });
    // On secure origins only; the constructor of its nodes is there in either case.
    worklet = context.audioWorklet?.addModule(new URL('worklet.js', import.meta.url)).then(() => true, () => false)
      ?? null;
  }
  context.resume();
  return context;
}

/** A connection was refused with a reason. */
class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export class Live {
  /** Pieces of sound, for who wants to draw them: called with one Float32Array for each channel, and the rate. */
  onsound = () => {};
  #clock;
  #tell;
  #wanted = false;
  #name;
  #gain = null;
  #volume = 1;
  #abort = null;
  #last = 0;
  #watch = 0;
  #pause = { ms: 0, end: null };
  #play = null;
  #margin = MARGIN.first;
  /** How often sound ran out, when it did last, and how often too much was skipped. */
  dropouts = 0;
  lastDropout = 0;
  skips = 0;

  /** `clock.captured(stream, frame)` is the page's time of a frame's capture; `tell(state, detail)` hears of all. */
  constructor(clock, tell) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** Plays an input, from `back` seconds ago. Within a click. */
  start(name, back = 0) {
    this.stop(true);
    const ctx = wake();
    this.#name = name;
    this.#wanted = true;
    this.#margin = Math.max(MARGIN.first, Math.min(this.#margin, 0.1));
    this.#gain = ctx.createGain();
    this.#gain.gain.value = this.#volume;
    this.#gain.connect(ctx.destination);
    ctx.onstatechange = () => {
      if (this.#wanted && ctx.state !== 'running' && ctx.state !== 'closed') this.#tell('interrupted');
    };
    this.#watch = setInterval(() => {
      if (this.#play && performance.now() - this.#last > SILENT_MS) this.#abort?.abort();
    }, 1000);
    this.#run(back, this.#gain);
  }

  /** Stops. `again`: to start over at once. */
  stop(again = false) {
    if (!this.#wanted) return;
    this.#wanted = false;
    clearInterval(this.#watch);
    this.#abort?.abort();
    this.#pause.end?.();
    const gain = this.#gain;
    gain.gain.setTargetAtTime(0, context.currentTime, 0.005);
    setTimeout(() => {
      gain.disconnect();
      if (!this.#wanted) context.suspend();
    }, 60);
    this.#play = null;
    if (!again) this.#tell('stopped');
  }

  /** Looks again at once: the network is back, or somebody looks at the page. */
  nudge() {
    if (!this.#wanted) return;
    context.resume();
    this.#pause.ms = 0;
    this.#pause.end?.();
    if (this.#play && performance.now() - this.#last > SILENT_MS) this.#abort?.abort();
  }

  set volume(volume) {
    this.#volume = volume;
    this.#gain?.gain.setTargetAtTime(volume, context.currentTime, 0.01);
  }

  /** What is heard now: how many ms ago it was captured, and how it is made. Null before the first sound. */
  get figures() {
    const play = this.#play;
    if (!play?.sounds) return null;
    const output = heard();
    const frame = play.end - (play.output.end - output) * play.rate;
    const captured = this.#clock.captured(play.stream, frame);
    return {
      delay: captured === null ? null : performance.now() - captured,
      back: play.back,
      queued: 1000 * this.#queued(play),
      margin: 1000 * this.#margin,
      way: play.output.way,
    };
  }

  async #run(back, gain) {
    this.#tell('connecting');
    while (this.#wanted && gain === this.#gain) {
      let why;
      try {
        await this.#connect(back, gain);
        why = { cause: 'ended' };
      } catch (error) {
        why = error instanceof Refused ? { cause: 'refused', status: error.status, text: error.message } : { cause: 'lost' };
      }
      if (!this.#wanted || gain !== this.#gain) return;
      this.#play?.output?.clear();
      // A stream that played is tried again at once: it may have ended because the format is another one now.
      const played = this.#play?.sounds;
      this.#play = null;
      back = 0;
      this.#pause.ms = played ? 50 : Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause.ms * 2));
      this.#tell('waiting', why);
      await new Promise((resolve) => {
        this.#pause.end = resolve;
        // Not all pages at the same time.
        setTimeout(resolve, this.#pause.ms * (0.75 + Math.random() / 2));
      });
    }
  }

  async #connect(back, gain) {
    const abort = this.#abort = new AbortController();
    const patience = setTimeout(() => abort.abort(), CONNECT_MS);
    try {
      const query = back > 0 ? `&back=${back}` : '';
      const response = await fetch(`${this.#name}.wav?latency=low${query}`, { signal: abort.signal, cache: 'no-store' });
      if (!response.ok) throw new Refused(response.status, (await response.text()).trim());
      clearTimeout(patience);
      const [stream, frame] = (response.headers.get('Wavecast-Frame') ?? '0/0').split('/').map(Number);
      const wav = new WavReader();
      const bytes = response.body.getReader();
      this.#last = performance.now();
      const play = this.#play = {
        stream, back, end: frame, pending: [], output: null, sounds: false, rate: 0,
        stood: context.currentTime, skip: 0, tail: null, target: null, least: Infinity, since: 0, calm: 0,
        faster: 1, starved: 0,
      };
      for (;;) {
        const { done, value } = await bytes.read();
        if (done) return;
        this.#last = performance.now();
        const piece = wav.push(value);
        if (!piece) continue;
        if (!play.output) {
          const { rate, channels } = wav.format;
          play.rate = rate;
          play.resampler = new Resampler(rate, context.sampleRate, channels);
          play.output = await output(channels, gain);
          if (abort.signal.aborted) return;
        }
        this.onsound(piece, play.rate);
        this.#take(play, piece);
      }
    } finally {
      clearTimeout(patience);
      abort.abort();
    }
  }

  #take(play, piece) {
    if (!play.sounds) {
      // A device that is being opened does not play yet, and what is not heard now is not live.
      if (context.state !== 'running' || context.currentTime === play.stood) {
        if (play.back) play.pending.push(piece);
        else play.end += piece[0].length;
        return;
      }
      play.sounds = true;
      play.since = performance.now();
      this.#pause.ms = 0;
      this.#tell('playing', { back: play.back });
    } else {
      this.#regulate(play);
    }
    play.pending.push(piece);
    while (play.pending.length > 0 && (!play.back || play.output.end - context.currentTime < AHEAD)) {
      const next = cut(play, play.pending.shift());
      if (next[0].length === 0) continue;
      const before = play.resampler.consumed;
      play.output.push(play.resampler.push(next, play.faster), this.#margin);
      play.end += play.resampler.consumed - before;
    }
  }

  /** Seconds of sound that are here and not played yet. */
  #queued(play) {
    const pending = play.pending.reduce((sum, piece) => sum + piece[0].length, 0);
    return play.output.end - context.currentTime + pending / play.rate;
  }

  #regulate(play) {
    const now = performance.now();
    if (play.output.starved > play.starved) {
      play.starved = play.output.starved;
      this.dropouts++;
      this.lastDropout = now;
      this.#margin = Math.min(MARGIN.most, this.#margin * 1.4 + 0.004);
      [play.least, play.since, play.calm] = [Infinity, now, 0];
    }
    if (play.output.waits) return;
    const queued = this.#queued(play);
    play.least = Math.min(play.least, queued);
    // Far too much at once, after a stall somewhere: there is nothing to wait for.
    const flood = !play.back && queued > this.#margin + 0.5;
    if (now - play.since < WINDOW_MS && !flood) return;
    // What lies in the past keeps the distance that it began with.
    if (play.back && play.target === null && now - play.since > WINDOW_MS) play.target = play.least;
    const target = play.back ? play.target : this.#margin;
    const excess = (flood ? queued : play.least) - target;
    if (!play.back && excess > SKIP && play.skip === 0) {
      play.skip = Math.round(excess * play.rate);
      play.faster = 1;
      this.skips++;
    } else {
      play.faster = 1 + Math.max(-MOST_FASTER, Math.min(MOST_FASTER, excess * 0.1));
    }
    if (!play.back) {
      // It came close to running out: so close that the next time it may.
      if (play.least < this.#margin * 0.4) [this.#margin, play.calm] = [Math.min(MARGIN.most, this.#margin + 0.003), 0];
      else if (++play.calm >= 40) [this.#margin, play.calm] = [Math.max(MARGIN.least, this.#margin - 0.002), 0];
    }
    [play.least, play.since] = [Infinity, now];
  }
}

/** Leaves out what is to be skipped, and blends what was before into what comes after. */
function cut(play, piece) {
  if (play.skip > 0) {
    const blend = Math.min(piece[0].length, Math.round(BLEND * play.rate));
    play.tail ??= piece.map((samples) => samples.slice(0, blend));
    const skipped = Math.min(play.skip, piece[0].length);
    piece = piece.map((samples) => samples.slice(skipped));
    play.skip -= skipped;
    play.end += skipped;
  }
  if (play.skip === 0 && play.tail && piece[0].length > 0) {
    const length = Math.min(play.tail[0].length, piece[0].length);
    piece.forEach((samples, c) => {
      for (let i = 0; i < length; i++) samples[i] += (play.tail[c][i] - samples[i]) * (1 - (i + 1) / length);
    });
    play.tail = null;
  }
  return piece;
}

/** The context's time of what the loudspeaker plays now. */
function heard() {
  const stamp = context.getOutputTimestamp?.();
  if (stamp?.performanceTime > 0) return stamp.contextTime + (performance.now() - stamp.performanceTime) / 1000;
  return context.currentTime - (context.outputLatency || context.baseLatency || 0);
}

async function output(channels, into) {
  if (await worklet) return new Worklet(channels, into);
  return new Scheduled(into);
}

/** Plays by buffers, each of which begins where the one before it ends. Works everywhere. */
class Scheduled {
  way = 'scheduled';
  waits = false;
  starved = 0;
  #into;
  /** In samples of the context, so that nothing is ever rounded. */
  #end = 0;
  #sources = new Set();

  constructor(into) {
    this.#into = into;
  }

  /** The context's time at which what was given ends. */
  get end() {
    return this.#end / context.sampleRate;
  }

  push(piece, margin) {
    const length = piece[0].length;
    if (length === 0) return;
    const now = Math.ceil(context.currentTime * context.sampleRate);
    if (this.#end < now) {
      if (this.#end > 0) this.starved++;
      this.#end = now + Math.round(margin * context.sampleRate);
    }
    const buffer = context.createBuffer(piece.length, length, context.sampleRate);
    piece.forEach((samples, c) => buffer.copyToChannel(samples, c));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#into);
    source.onended = () => this.#sources.delete(source);
    source.start(this.end);
    this.#sources.add(source);
    this.#end += length;
  }

  clear() {
    for (const source of this.#sources) source.stop();
    this.#sources.clear();
    this.#end = 0;
  }
}

/** Plays on the sound's own thread. */
class Worklet {
  way = 'worklet';
  waits = true;
  starved = 0;
  #node;
  #end = 0;
  #given = 0;

  constructor(channels, into) {
    this.#node = new AudioWorkletNode(context, 'player', { numberOfInputs: 0, outputChannelCount: [channels] });
    this.#node.connect(into);
    this.#node.port.onmessage = ({ data: { end, taken, starved, waits } }) => {
      // What was given since is still on its way.
      this.#end = end + (this.#given - taken) / context.sampleRate;
      [this.starved, this.waits] = [starved, waits];
    };
  }

  get end() {
    return this.#end;
  }

  push(piece, margin) {
    const length = piece[0].length;
    if (length === 0) return;
    this.#given += length;
    this.#end = Math.max(this.#end, context.currentTime) + length / context.sampleRate;
    this.#node.port.postMessage({ piece, margin: Math.round(margin * context.sampleRate) }, piece.map(({ buffer }) => buffer));
  }

  clear() {
    this.#node.port.postMessage({ clear: true });
    this.#node.disconnect();
  }
}
