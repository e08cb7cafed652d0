// The server's events for an input, and an estimate of the server's clock.

import { at } from './address.js';

const SILENT_MS = 4000;
const PAUSE_MS = { first: 500, most: 8000 };
const WINDOW_MS = 30_000;

export class Events {
	// The last event of each kind, or null; `stateAt` is the page's time of `state`.
	hello = null;
	state = null;
	stateAt = 0;
	levels = null;
	// Phase and peak of every input, where there are several.
	inputs = null;
	connected = false;
	// Since when there is no connection, by the page's time; and the clock's time of the last event.
	alone = performance.now();
	contact = null;
	#tell;
	#input = null;
	#source = null;
	#timer = 0;
	#pause = 0;
	#last = 0;
	// Arrival minus send time of events, least first; and the least transit time (ms).
	#late = [];
	#way = 0;

	// Calls `tell` with `hello`, `state`, `levels`, `inputs`, `lost`, or `refused` for a missing input.
	constructor(tell) {
		this.#tell = tell;
		setInterval(() => this.#source && performance.now() - this.#last > SILENT_MS && this.#lost(), 1000);
	}

	// Subscribes to an input; `null` is the first input.
	watch(input) {
		if (input !== this.#input) this.state = this.levels = null;
		this.#input = input;
		this.#pause = 0;
		this.#open();
	}

	// The input whose events are wanted; null for the first one.
	get input() {
		return this.#input;
	}

	// Unsubscribes until `nudge`.
	rest() {
		clearTimeout(this.#timer);
		this.#source?.close();
		this.#source = null;
		if (this.connected) this.alone = performance.now();
		this.connected = false;
	}

	// Reconnects at once.
	nudge() {
		if (!this.connected) this.watch(this.#input);
	}

	// The page's time (ms) of the capture of a stream's frame; null if unknown.
	captured(stream, frame) {
		// After a new connection the clock is unknown until the first levels.
		if (!this.levels || !this.#late[0] || this.state?.stream !== stream) return null;
		return this.levels.time - (this.levels.frame - frame) / this.state.format.rate * 1000 + this.#late[0].ms - this.#way;
	}

	#open() {
		this.rest();
		// Levels no more often than they are drawn.
		const source = this.#source = new EventSource(at(`${this.#input ? `${this.#input}/` : ''}levels?interval=100`));
		this.#last = performance.now();
		const on = (kind, take) => source.addEventListener(kind, ({ data }) => {
			if (source !== this.#source) return;
			this.#last = performance.now();
			this.contact = Date.now();
			take(JSON.parse(data));
			this.#tell(kind === 'message' ? 'levels' : kind);
		});
		on('hello', (hello) => {
			[this.hello, this.connected, this.#pause, this.#late, this.#way] = [hello, true, 0, [], way()];
		});
		on('state', (state) => {
			if (state.stream !== this.state?.stream) this.levels = null;
			[this.state, this.stateAt, this.#input] = [state, this.#last, state.input];
		});
		on('inputs', (inputs) => { this.inputs = inputs; });
		on('message', (levels) => {
			this.levels = levels;
			const [at, ms] = [this.#last, this.#last - levels.now];
			this.#late = this.#late.filter((old) => at - old.at < WINDOW_MS && old.ms < ms);
			this.#late.push({ at, ms });
		});
		source.onerror = () => {
			if (source !== this.#source) return;
			// A browser closes the source if the answer is no event stream.
			const refused = source.readyState === EventSource.CLOSED;
			this.#lost();
			if (refused) this.#tell('refused');
		};
	}

	#lost() {
		this.rest();
		this.#tell('lost');
		this.#pause = Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
		// Spreads the pages' retries.
		this.#timer = setTimeout(() => this.#open(), this.#pause * (0.75 + Math.random() / 2));
	}
}

// The transit time of an event: half of the least round trip.
function way() {
	const asked = ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind));
	const took = asked.map((entry) => entry.responseStart - entry.requestStart).filter((ms) => ms > 0);
	return Math.min(...took, 1000) / 2 % 500;
}
