// Live: the stream from fetch() to the loudspeaker, with as little delay as possible.
//
// Playback runs up to half a percent faster or slower to hold the least queue length at a margin. A large excess is
// skipped. The margin grows when sound runs out, and shrinks again.

import { at } from './address.js';
import { Resampler, WavReader } from './sound.js';

// In seconds, like all times of the context.
const MOST_MARGIN = 0.4;
// Excess to skip: playing faster would take too long.
const SKIP = 0.05;
const MOST_FASTER = 0.005;
// Past sound to queue at once: a page may sleep for a second.
const AHEAD = 1.5;
const BLEND = 0.004;
const WINDOW_MS = 500;
const SETTLE_MS = 3000;
// Time without data after which a stream is dead.
const SILENT_MS = 3000;
const CONNECT_MS = 6000;
const FADE_MS = 60;
const PAUSE_MS = { first: 250, most: 5000 };

// Web Audio may be disabled.
export const supported = Boolean(globalThis.AudioContext);

let context;
let worklet;

// In advance: a context takes 0.1 s to start.
export const prepare = () => context || make().suspend();

function make() {
	context ??= new AudioContext({ latencyHint: 'interactive' });
	// On secure origins only.
	worklet ??= context.audioWorklet?.addModule(at('worklet.js', import.meta.url)).then(() => true, () => false);
	return context;
}

export class Live {
	// Receives all sound, and its rate.
	onsound = () => {};
	// Returns the node into which the sound goes.
	output = () => context.destination;
	// Number of dropouts, and time of the last.
	dropouts = 0;
	lastDropout = 0;
	#clock;
	#tell;
	#name = null;
	#gain;
	#abort;
	#last = 0;
	#pause = 0;
	#resume = () => {};
	#play;
	#margin = 0;

	// `clock.captured(stream, frame)` returns the capture time of a frame; `tell(state, detail)` receives all changes.
	constructor(clock, tell) {
		this.#clock = clock;
		this.#tell = tell;
		setInterval(() => this.#look(), 1000);
	}

	// Plays an input, from `back` seconds ago. Call in a click: otherwise iOS is silent.
	start(name, back = 0) {
		this.stop(true);
		make();
		context.onstatechange = () => this.#gain && context.state !== 'running' && this.#tell('interrupted');
		// A phone's silent switch does not mute deliberate playback.
		if (navigator.audioSession) navigator.audioSession.type = 'playback';
		context.resume();
		this.#name = name;
		this.#gain = context.createGain();
		this.#gain.connect(this.output(context));
		this.#run(back, this.#gain);
	}

	// Stops; `again` to start at once.
	stop(again = false) {
		const gain = this.#gain;
		if (!gain) return;
		[this.#gain, this.#play] = [null, null];
		this.#abort.abort();
		this.#resume();
		gain.gain.setTargetAtTime(0, context.currentTime, 0.005);
		setTimeout(() => {
			gain.disconnect();
			if (!this.#gain) context.suspend();
		}, FADE_MS);
		if (!again) this.#tell('stopped');
	}

	// Retries at once, after the network or the user is back.
	nudge() {
		if (!this.#gain) return;
		context.resume();
		this.#pause = 0;
		this.#resume();
		this.#look();
	}

	// The age in ms of the sound heard now, and its playback path.
	get figures() {
		const play = this.#play;
		if (!play?.began) return null;
		const frame = play.end - (play.output.end - heard()) * play.rate;
		const captured = this.#clock.captured(play.stream, frame);
		return {
			delay: captured === null ? null : performance.now() - captured,
			back: play.back,
			margin: 1000 * this.#margin,
			way: play.output.way,
		};
	}

	#look() {
		if (this.#play && performance.now() - this.#last > SILENT_MS) this.#abort.abort();
	}

	// Connects repeatedly until `stop`.
	async #run(back, gain) {
		this.#tell('connecting');
		for (;;) {
			let why = { cause: 'ended' };
			try {
				await this.#connect(back, gain);
			} catch (error) {
				why = error.status ? { cause: 'refused', text: error.message } : { cause: 'lost' };
			}
			if (gain !== this.#gain) return;
			// Retry at once if sound played: the format may have changed.
			this.#pause = this.#play?.began ? 50 : Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
			[this.#play, back] = [null, 0];
			this.#tell('waiting', why);
			await new Promise((resolve) => {
				this.#resume = resolve;
				// Spreads the pages' retries.
				setTimeout(resolve, this.#pause * (0.75 + Math.random() / 2));
			});
			if (gain !== this.#gain) return;
		}
	}

	async #connect(back, gain) {
		const abort = this.#abort = new AbortController();
		const patience = setTimeout(() => abort.abort(), CONNECT_MS);
		const into = context.createGain();
		into.connect(gain);
		let output = null;
		try {
			const response = await fetch(at(`${this.#name}.wav?latency=low${back > 0 ? `&back=${back}` : ''}`), {
				signal: abort.signal, cache: 'no-store',
			});
			if (!response.ok) throw Object.assign(new Error((await response.text()).trim()), { status: response.status });
			clearTimeout(patience);
			const [stream, frame] = (response.headers.get('Wavecast-Frame') ?? '0/0').split('/').map(Number);
			this.#last = performance.now();
			const play = this.#play = {
				stream, back, end: frame, pending: [], stood: context.currentTime, faster: 1,
				skip: 0, tail: null, target: null, least: Infinity, since: 0, calm: 0, starved: 0,
			};
			const [wav, bytes] = [new WavReader(), response.body.getReader()];
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
					output = play.output = await worklet ? new Worklet(channels, into) : new Scheduled(into);
					this.#margin ||= output.least + 0.004;
				}
				this.#take(play, piece);
				this.onsound(piece, play.rate);
			}
		} finally {
			clearTimeout(patience);
			abort.abort();
			// After the last sound has faded out.
			setTimeout(() => {
				into.disconnect();
				output?.close?.();
			}, FADE_MS);
		}
	}

	#take(play, piece) {
		if (play.began) {
			this.#regulate(play);
		} else {
			// A device does not play while it opens.
			if (context.state !== 'running' || context.currentTime === play.stood) {
				if (play.back) play.pending.push(piece);
				else play.end += piece[0].length;
				return;
			}
			play.began = play.since = performance.now();
			this.#pause = 0;
			this.#tell('playing', { back: play.back });
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

	#regulate(play) {
		const now = performance.now();
		const { output } = play;
		if (output.starved > play.starved) {
			play.starved = output.starved;
			this.dropouts++;
			this.lastDropout = now;
			// A starting device takes all it can get.
			this.#margin = Math.min(MOST_MARGIN, this.#margin * (now - play.began < SETTLE_MS ? 1.1 : 1.4));
			// No shrinking for ten minutes.
			[play.least, play.since, play.calm] = [Infinity, now, -1200];
		}
		if (output.waits) return;
		play.least = Math.min(play.least, queued(play));
		if (now - play.since < WINDOW_MS) return;
		// Past sound keeps its initial distance.
		if (play.back) play.target ??= play.least;
		const excess = play.least - (play.target ?? this.#margin);
		// An initial skip may be audible: a starting device is overfed.
		if (!play.back && excess > (now - play.began < SETTLE_MS ? SKIP / 4 : SKIP) && play.skip === 0) {
			play.skip = Math.round(excess * play.rate);
			play.faster = 1;
		} else {
			play.faster = 1 + Math.max(-MOST_FASTER, Math.min(MOST_FASTER, excess * 0.2));
		}
		// More margin near a dropout; less after 30 s without a near one.
		if (play.least < this.#margin * 0.4) {
			play.calm = Math.min(0, play.calm);
			this.#margin = Math.min(MOST_MARGIN, this.#margin + 0.003);
		} else if (++play.calm > 0 && play.calm % 60 === 0) {
			this.#margin = Math.max(output.least, this.#margin - 0.001);
		}
		[play.least, play.since] = [Infinity, now];
	}
}

// Seconds of received sound not yet played.
function queued(play) {
	return play.output.end - context.currentTime + play.pending.reduce((sum, piece) => sum + piece[0].length, 0) / play.rate;
}

// Skips sound that is due, and blends the sound before into the sound after.
function cut(play, piece) {
	if (play.skip > 0) {
		play.tail ??= piece.map((samples) => samples.slice(0, Math.round(BLEND * play.rate)));
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

// Queried for its latency, Firefox on Linux may deadlock: it holds a lock that its audio waits for.
const AWAY = /Linux.*Firefox/.test(navigator.userAgent) && 0.038;

// The context's time of the sound heard now.
function heard() {
	if (AWAY) return context.currentTime - AWAY;
	const stamp = context.getOutputTimestamp?.();
	// WebKit's has another clock.
	const age = performance.now() - stamp?.performanceTime;
	const time = Math.abs(age) < 100 ? stamp.contextTime + age / 1000 : Infinity;
	// Firefox omits the output latency.
	return time < context.currentTime - 0.001 ? time : context.currentTime - (context.outputLatency || context.baseLatency || 0);
}

// Garbage samples per piece. Chromium frees played buffers during garbage collection, together and on the page's
// thread: 29 ms after the first minute. With this garbage it collects every other second.
const LITTER = 8192;

// Plays by consecutive buffers.
class Scheduled {
	way = 'scheduled';
	// The page's thread queues the buffers, with more pauses.
	least = 0.029;
	waits = false;
	starved = 0;
	// In samples: never rounded.
	#end = 0;
	#into;

	constructor(into) {
		this.#into = into;
	}

	// End time of the queue.
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
		const source = context.createBufferSource();
		const buffer = context.createBuffer(piece.length, length, context.sampleRate);
		piece.forEach((samples, c) => buffer.copyToChannel(samples, c));
		// Firefox copies the content here.
		source.buffer = buffer;
		source.connect(this.#into);
		source.start(this.end);
		this.#end += length;
		context.createBuffer(1, LITTER, context.sampleRate).getChannelData(0);
	}
}

// Plays on the audio thread.
class Worklet {
	way = 'worklet';
	least = 0.022;
	waits = true;
	starved = 0;
	end = 0;
	#node;
	#given = 0;

	constructor(channels, into) {
		this.#node = new AudioWorkletNode(context, 'player', { numberOfInputs: 0, outputChannelCount: [channels] });
		this.#node.connect(into);
		this.#node.port.onmessage = ({ data: { end, taken, starved, waits } }) => {
			// Later pieces are still in transit.
			this.end = end + (this.#given - taken) / context.sampleRate;
			[this.starved, this.waits] = [starved, waits];
		};
	}

	push(piece, margin) {
		const length = piece[0].length;
		this.#given += length;
		this.end = Math.max(this.end, context.currentTime) + length / context.sampleRate;
		this.#node.port.postMessage({ piece, margin: margin * context.sampleRate }, piece.map(({ buffer }) => buffer));
	}

	close() {
		this.#node.port.postMessage(null);
	}
}
