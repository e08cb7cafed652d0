// From the playout to the loudspeaker, by source nodes: the audio thread is open to secure origins only.

import { Playout } from './playout.js';

// Sound that is scheduled in advance. A hidden page may sleep for a second.
const LEAD = { seen: 0.04, hidden: 1.5 };
// The length of a source node, and the least time before the first one.
const NODE = 0.02;
const START = 0.03;
// With less than this scheduled, missing sound is replaced. With still less, a node would come too late.
const CRITICAL = 0.016;
const LATE = 0.008;
// What each source node fades out with if no other follows in time.
const TAIL = 0.005;

// Web Audio may be disabled.
export const supported = Boolean(globalThis.AudioContext);

export let context;

export const make = () => (context ??= new AudioContext({ latencyHint: 'interactive' }));

// Queried for its latency, Firefox on Linux may deadlock: it holds a lock that its audio waits for.
const AWAY = /Linux.*Firefox/.test(globalThis.navigator?.userAgent) && 0.038;

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

// After a pause of the page's thread Firefox tells the time before it, too early for what is scheduled then. So a time that stands
// still for longer than this, in seconds, is reckoned by the other clock.
const STALE = 0.02;
let told = { time: 0, clock: 0 };

function currentTime() {
	const [time, clock] = [context.currentTime, performance.now() / 1000];
	if (time !== told.time) told = { time, clock };
	const stood = clock - told.clock;
	return stood > STALE ? time + stood : time;
}

export class Output extends Playout {
	// What the page's thread needs with its pauses, in seconds.
	least = 0.027;
	#into;
	#rate;
	// In samples: never rounded.
	#end = 0;
	#last = null;
	#timer = 0;

	constructor(rate, channels, back, into) {
		super(rate, context.sampleRate, channels, back);
		[this.#rate, this.#into] = [rate, into];
	}

	// The frame heard now, from the first one that was pushed.
	get heard() {
		return this.frame - (this.#end / context.sampleRate - heard()) * this.#rate;
	}

	push(piece, late, target) {
		// The first node may start at once: what is missing in the queue is silence before it.
		if (this.waits) this.#end = Math.ceil((currentTime() + Math.max(START, target - late - this.queued)) * context.sampleRate);
		super.push(piece, late, target, Math.max(0, this.#ahead()));
		this.#feed();
	}

	close() {
		clearTimeout(this.#timer);
	}

	#ahead() {
		return this.#end / context.sampleRate - currentTime();
	}

	#feed() {
		clearTimeout(this.#timer);
		if (!this.waits && this.#ahead() < LATE) this.starve();
		if (this.waits) {
			this.#last = null;
			return;
		}
		const lead = document.hidden ? LEAD.hidden : LEAD.seen;
		for (let ahead; (ahead = this.#ahead()) < lead;) {
			const piece = this.give(NODE, ahead, ahead < CRITICAL);
			if (!piece) break;
			this.#schedule(piece);
		}
		const wait = this.queued > 0 ? this.#ahead() - lead + NODE / 2 : this.#ahead() - CRITICAL;
		this.#timer = setTimeout(() => this.#feed(), 1000 * Math.max(0.004, wait));
	}

	#schedule(piece) {
		const length = piece[0].length;
		if (length === 0) return;
		const tail = Math.min(length, Math.round(TAIL * context.sampleRate));
		const source = context.createBufferSource();
		const buffer = context.createBuffer(piece.length, length + tail, context.sampleRate);
		piece.forEach((samples, c) => {
			buffer.copyToChannel(samples, c);
			const rest = samples.slice(length - tail).reverse();
			buffer.copyToChannel(rest.map((sample, i) => sample * (1 - (i + 0.5) / tail)), c, length);
		});
		// Firefox copies the content here.
		source.buffer = buffer;
		source.connect(this.#into);
		const time = this.#end / context.sampleRate;
		source.start(time);
		this.#last?.stop(time);
		this.#last = source;
		this.#end += length;
	}
}
