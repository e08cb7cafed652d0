// Live: the stream from fetch() to the loudspeaker, with as little delay as possible.
//
// The jitter buffer's rule (jitter.js) says how far behind the quickest piece to play, and the playout (playout.js) keeps
// to that distance. Where the network carries less than the uncompressed stream needs, the stream becomes FLAC.

import { at } from './address.js';
import { FlacReader } from './flac.js';
import { Jitter } from './jitter.js';
import { context, make, open } from './output.js';
import { WavReader } from './sound.js';

export { prepare, supported } from './output.js';

// Time without data after which a stream is dead.
const SILENT_MS = 3000;
const CONNECT_MS = 6000;
const FADE_MS = 60;
const PAUSE_MS = { first: 250, most: 5000 };
// What the player itself needs grows by this, in seconds, with each gap that no late piece explains.
const MORE = 0.006;
const MOST_NEEDED = 0.08;
// The most that a device takes at a time once it is open, in seconds.
const OPENS = 0.03;
// A page that starts has other work: what comes late meanwhile, in seconds, says nothing about the network.
const SETTLES = 0.2;

const READERS = { wav: WavReader, flac: FlacReader };

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
	#jitter = null;
	// Of the input that is played.
	#codec = 'wav';
	#hasFlac = true;

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
		if (name !== this.#name) [this.#jitter, this.#codec] = [null, 'wav'];
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
		const { frame } = play.output;
		const captured = frame === null ? null : this.#clock.captured(play.stream, play.first + frame);
		return {
			delay: captured === null ? null : performance.now() - captured,
			back: play.back,
			margin: 1000 * this.#jitter.target,
			stretched: play.output.stretched,
			way: play.output.way,
			codec: this.#codec,
		};
	}

	#look() {
		if (this.#play && performance.now() - this.#last > SILENT_MS) this.#abort.abort();
	}

	// Connects repeatedly until `stop`.
	async #run(back, gain) {
		this.#tell('connecting');
		for (;;) {
			let why;
			const codec = this.#codec;
			try {
				await this.#connect(back, gain);
				why = { cause: codec === this.#codec ? 'ended' : 'slow' };
			} catch (error) {
				why = error.status ? { cause: 'refused', text: error.message } : { cause: 'lost' };
				// Not every server has every codec.
				if ([404, 501].includes(error.status) && this.#codec === 'flac') [this.#codec, this.#hasFlac] = ['wav', false];
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
			const response = await fetch(at(`${this.#name}.${this.#codec}?latency=low${back > 0 ? `&back=${back}` : ''}`), {
				signal: abort.signal, cache: 'no-store',
			});
			if (!response.ok) throw Object.assign(new Error((await response.text()).trim()), { status: response.status });
			clearTimeout(patience);
			const [stream, frame] = (response.headers.get('Wavecast-Frame') ?? '0/0').split('/').map(Number);
			this.#last = performance.now();
			const play = this.#play = {
				stream, back, first: frame, received: frame, pending: [], stood: context.currentTime, gaps: 0, unexplained: 0,
			};
			const [reader, bytes] = [new READERS[this.#codec](), response.body.getReader()];
			for (;;) {
				const { done, value } = await bytes.read();
				if (done) return;
				this.#last = performance.now();
				const piece = reader.push(value);
				if (!piece) continue;
				if (!play.output) {
					const { rate, channels } = reader.format;
					play.rate = rate;
					output = play.output = await open(rate, channels, back > 0, into);
					// The times of the same stream go on.
					const of = `${stream} ${rate} ${this.#codec}`;
					if (this.#jitter?.of !== of) this.#jitter = Object.assign(new Jitter(output.least), { of });
				}
				this.#take(play, piece);
				this.onsound(piece, play.rate);
				if (this.#jitter.narrow && !back && this.#saves()) return;
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

	// Changes to a codec that needs less. Returns false if there is none.
	#saves() {
		if (this.#codec === 'wav' && this.#hasFlac) {
			this.#codec = 'flac';
			return true;
		}
		if (!this.#play.slow) this.#tell('playing', { back: 0, codec: this.#codec, slow: true });
		this.#play.slow = true;
		return false;
	}

	#take(play, piece) {
		const now = performance.now() / 1000;
		const start = play.received / play.rate;
		play.received += piece[0].length;
		const { output } = play;
		if (!play.began) {
			// A device does not play while it opens, and then takes much at once.
			const passed = context.currentTime - play.stood;
			play.stood = context.currentTime;
			if (context.state !== 'running' || passed === 0 || passed > OPENS) {
				if (play.back) play.pending.push(piece);
				else play.first += piece[0].length;
				return;
			}
			play.began = performance.now();
			play.settled = now + SETTLES;
			this.#pause = 0;
			this.#tell('playing', { back: play.back, codec: this.#codec });
			for (const early of play.pending) output.push(early, 0, 0);
		}
		const late = play.back ? 0 : this.#jitter.came(now, start, now > play.settled);
		output.push(piece, late, this.#jitter.target);
		if (output.gaps > play.gaps) {
			this.dropouts += output.gaps - play.gaps;
			this.lastDropout = performance.now();
			play.gaps = output.gaps;
		}
		if (output.unexplained > play.unexplained) {
			play.unexplained = output.unexplained;
			this.#jitter.least = Math.min(MOST_NEEDED, this.#jitter.least + MORE);
		}
	}
}
