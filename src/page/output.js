// The two ways from the playout to the loudspeaker: on the audio thread where the browser allows it, which is on secure origins
// only, or by source nodes that the page's thread schedules.

import { at } from './address.js';
import { Playout } from './playout.js';

// Sound that the page's thread schedules in advance. A hidden page may sleep for a second.
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
let worklet;

// In advance: a context takes 0.1 s to start.
export const prepare = () => context || make().suspend();

export function make() {
	context ??= new AudioContext({ latencyHint: 'interactive' });
	// On secure origins only.
	worklet ??= context.audioWorklet?.addModule(at('worklet.js', import.meta.url)).then(() => true, () => false);
	return context;
}

// An output of a stream's sound to a node. `back`: past sound, which keeps its distance.
export async function open(rate, channels, back, into) {
	return await worklet ? new Worklet(rate, channels, back, into) : new Scheduled(rate, channels, back, into);
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

// After a pause of the page's thread Firefox tells the time before the pause, in which it may be too late for what is scheduled
// then. So a time that stands still for longer than this, in seconds, is reckoned by the other clock.
const STALE = 0.02;
let told = { time: 0, clock: 0 };

function currentTime() {
	const [time, clock] = [context.currentTime, performance.now() / 1000];
	if (time !== told.time) told = { time, clock };
	const stood = clock - told.clock;
	return stood > STALE ? time + stood : time;
}

// Plays by consecutive buffers.
class Scheduled {
	way = 'scheduled';
	// The page's thread queues the buffers, with more pauses.
	least = 0.027;
	#playout;
	#into;
	#rate;
	// In samples: never rounded.
	#end = 0;
	#last = null;
	#timer = 0;

	constructor(rate, channels, back, into) {
		this.#rate = rate;
		this.#into = into;
		this.#playout = new Playout(rate, context.sampleRate, channels, back);
	}

	get gaps() {
		return this.#playout.gaps;
	}

	get unexplained() {
		return this.#playout.unexplained;
	}

	get stretched() {
		return this.#playout.stretched / this.#rate;
	}

	// Number of the frame heard now, from the first one that was pushed.
	get frame() {
		return this.#playout.frame - (this.#end / context.sampleRate - heard()) * this.#rate;
	}

	push(piece, late, target) {
		const playout = this.#playout;
		// The first node may start as soon as it is scheduled: what is missing in the queue is silence before it.
		if (playout.waits) this.#end = Math.ceil((currentTime() + Math.max(START, target - late - playout.queued)) * context.sampleRate);
		playout.push(piece, late, target, Math.max(0, this.#ahead()));
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
		const playout = this.#playout;
		if (playout.waits) {
			this.#last = null;
			return;
		}
		if (this.#ahead() < LATE) {
			playout.starve();
			this.#last = null;
			return;
		}
		const lead = document.hidden ? LEAD.hidden : LEAD.seen;
		for (let ahead; (ahead = this.#ahead()) < lead;) {
			const piece = playout.give(NODE, ahead, ahead < CRITICAL);
			if (!piece) break;
			this.#schedule(piece);
		}
		const wait = playout.queued > 0 ? this.#ahead() - lead + NODE / 2 : this.#ahead() - CRITICAL;
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
			rest.forEach((sample, i) => { rest[i] = sample * (1 - (i + 0.5) / tail); });
			buffer.copyToChannel(rest, c, length);
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

// Plays on the audio thread.
class Worklet {
	way = 'worklet';
	least = 0.022;
	gaps = 0;
	unexplained = 0;
	stretched = 0;
	#node;
	#rate;
	#told = null;

	constructor(rate, channels, back, into) {
		this.#rate = rate;
		this.#node = new AudioWorkletNode(context, 'player', {
			numberOfInputs: 0, outputChannelCount: [channels], processorOptions: { rate, channels, back },
		});
		this.#node.connect(into);
		this.#node.port.onmessage = ({ data }) => {
			[this.gaps, this.unexplained, this.stretched, this.#told] = [data.gaps, data.unexplained, data.stretched / rate, data];
		};
	}

	get frame() {
		return this.#told && this.#told.frame - (this.#told.time - heard()) * this.#rate;
	}

	push(piece, late, target) {
		this.#node.port.postMessage({ piece, late, target });
	}

	close() {
		this.#node.port.postMessage(null);
	}
}
