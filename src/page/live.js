// Live: the stream from fetch() to the loudspeaker, with as little delay as possible. The jitter buffer's rule (jitter.js) says how
// far behind the quickest piece to play, and the playout (playout.js) keeps to that distance.

import { at } from './address.js';
import { Jitter } from './jitter.js';
import { Output, context, make } from './output.js';
import { WavReader } from './sound.js';

export { make, supported } from './output.js';

const SILENT_MS = 3000;
const CONNECT_MS = 6000;
const FADE_MS = 60;
const PAUSE_MS = { first: 250, most: 5000 };
// The rest in seconds.
// What the player needs grows by this with each gap that no late piece explains.
const MORE = 0.006;
const MOST_NEEDED = 0.08;
// By how much more than the wall clock a device's clock moves once it is open, and the most that opening takes.
const OPENS = 0.02;
const OPENED = 0.5;
// A page that starts has other work: what comes late meanwhile says nothing about the network.
const SETTLES = 0.2;
// So much of the past waits here; the rest waits at the server.
const PAST = 10;
// Sound that the server has left out, or that piled up on the way.
const LEFT_OUT = 1.5;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export class Live {
	output = () => context.destination;
	dropouts = 0;
	lastDropout = 0;
	#events;
	#tell;
	#name = null;
	#gain;
	#held = false;
	#opens = false;
	#abort;
	#last = 0;
	#pause = 0;
	#resume = () => {};
	#play;
	#jitter = null;

	constructor(events, tell) {
		[this.#events, this.#tell] = [events, tell];
		setInterval(() => this.#look(), 1000);
	}

	// Call in a click: otherwise iOS is silent.
	start(name, back = 0) {
		this.stop(true);
		make();
		[this.#held, this.#opens] = [false, context.state !== 'running'];
		context.onstatechange = () => {
			if (!this.#gain) return;
			// What came while the device was held is old.
			if (context.state === 'running') return this.#held && this.start(this.#name);
			this.#held = true;
			this.#tell('interrupted');
		};
		// A phone's silent switch does not mute deliberate playback.
		if (navigator.audioSession) navigator.audioSession.type = 'playback';
		context.resume();
		if (name !== this.#name || this.#jitter?.narrow) this.#jitter = null;
		this.#name = name;
		this.#gain = context.createGain();
		this.#gain.connect(this.output(context));
		this.#run(back, this.#gain);
	}

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

	nudge() {
		if (!this.#gain) return;
		context.resume();
		this.#pause = 0;
		this.#resume();
		this.#look();
	}

	get figures() {
		const play = this.#play;
		if (!play?.began) return null;
		const { heard, stretched } = play.output;
		const captured = this.#events.captured(play.stream, play.first + heard);
		return {
			delay: captured === null ? null : performance.now() - captured,
			back: play.back,
			margin: 1000 * this.#jitter.target,
			stretched: stretched / play.rate,
			codec: 'wav',
		};
	}

	#look() {
		const play = this.#play;
		if (!play) return;
		const { connected, state, levels } = this.#events;
		// The server may leave out sound, or go on with another stream, within a response.
		const wrong = play.began && connected && levels
			&& (state.stream !== play.stream || (!play.back && levels.frame - play.received > LEFT_OUT * play.rate));
		play.wrong = wrong ? play.wrong + 1 : 0;
		if (play.wrong > 2 || performance.now() - this.#last > SILENT_MS) this.#abort.abort();
	}

	async #run(back, gain) {
		this.#tell('connecting');
		for (;;) {
			const why = await this.#connect(back, gain).then(
				() => ({ cause: 'ended' }),
				({ status, message }) => (status ? { cause: 'refused', text: message } : { cause: 'lost' }),
			);
			if (gain !== this.#gain) return;
			// The format may have changed.
			this.#pause = this.#play?.began ? 50 : Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
			[this.#play, back] = [null, 0];
			this.#tell('waiting', why);
			// Spreads the pages' retries.
			await Promise.race([pause(this.#pause * (0.75 + Math.random() / 2)), new Promise((resolve) => { this.#resume = resolve; })]);
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
			const [stream, first] = (response.headers.get('Wavecast-Frame') ?? '0/0').split('/').map(Number);
			const asked = performance.now() / 1000;
			const play = this.#play = {
				back, stream, first, received: first, pending: [], gaps: 0, unexplained: 0, wrong: 0, slow: false,
				asked, looked: asked, stood: context.currentTime,
			};
			const [reader, bytes] = [new WavReader(), response.body.getReader()];
			for (;;) {
				while (output?.queued > PAST && gain === this.#gain) {
					await pause(100);
					this.#last = performance.now();
				}
				const { done, value } = await bytes.read();
				if (done) return;
				this.#last = performance.now();
				const piece = reader.push(value);
				if (!piece) continue;
				if (!output) {
					const { rate, channels } = reader.format;
					output = new Output(rate, channels, back > 0, into);
					Object.assign(play, { rate, output });
					const of = `${stream} ${rate}`;
					if (this.#jitter?.of !== of) this.#jitter = Object.assign(new Jitter(output.least), { of });
				}
				this.#take(play, piece);
				const slow = this.#jitter.narrow && !back;
				if (!play.began || slow === play.slow) continue;
				play.slow = slow;
				this.#tell('playing', { back, slow });
			}
		} finally {
			clearTimeout(patience);
			abort.abort();
			setTimeout(() => {
				into.disconnect();
				output?.close();
			}, FADE_MS);
		}
	}

	#take(play, piece) {
		const now = performance.now() / 1000;
		const start = play.received / play.rate;
		play.received += piece[0].length;
		const { output } = play;
		if (!play.began) {
			// A device does not play while it opens, and then takes much at once.
			const [passed, since] = [context.currentTime - play.stood, now - play.looked];
			[play.stood, play.looked] = [context.currentTime, now];
			if (context.state !== 'running' || (this.#opens && now - play.asked < OPENED && (passed === 0 || passed > since + OPENS))) {
				if (play.back) play.pending.push(piece);
				else play.first += piece[0].length;
				return;
			}
			play.began = now;
			[this.#pause, this.#opens] = [0, false];
			this.#tell('playing', { back: play.back });
			for (const early of play.pending) output.push(early, 0, 0);
		}
		// A device that is held takes nothing.
		if (context.state !== 'running') return;
		const late = play.back ? 0 : this.#jitter.came(now, start, now > play.began + SETTLES);
		output.push(piece, late, play.back ? 0 : this.#jitter.target);
		const { gaps, unexplained } = output;
		if (gaps > play.gaps) {
			this.dropouts += gaps - play.gaps;
			this.lastDropout = performance.now();
		}
		if (unexplained > play.unexplained) this.#jitter.least = Math.min(MOST_NEEDED, this.#jitter.least + MORE);
		Object.assign(play, { gaps, unexplained });
	}
}
