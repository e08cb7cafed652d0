// The server's events for an input, and an estimate of the server's clock.

import { at } from './address.js';

const SILENT_MS = 4000;
const PAUSE_MS = { first: 500, most: 8000 };
const WINDOW_MS = 30_000;

export class Events {
	// The last of each kind, or null; `stateAt` is the page's time of `state`.
	hello = null;
	state = null;
	stateAt = 0;
	levels = null;
	inputs = null;
	connected = false;
	// Since when there is no connection, by the page's time; the clock's time of the last event.
	alone = performance.now();
	contact = null;
	// Null for the first one.
	input = null;
	#tell;
	#source = null;
	#last = 0;
	#timer = 0;
	#pause = 0;
	#late = [];
	#way = 0;

	// Calls `tell` with `hello`, `state`, `levels`, `inputs`, `lost`, or `refused`.
	constructor(tell) {
		this.#tell = tell;
		setInterval(() => this.#source && performance.now() - this.#last > SILENT_MS && this.#lost(), 1000);
	}

	watch(input) {
		if (input !== this.input) this.state = this.levels = null;
		[this.input, this.#pause] = [input, 0];
		this.#open();
	}

	rest() {
		clearTimeout(this.#timer);
		this.#source?.close();
		this.#source = null;
		if (this.connected) this.alone = performance.now();
		this.connected = false;
	}

	nudge() {
		if (!this.connected) this.watch(this.input);
	}

	// The page's time (ms) of the capture of a stream's frame; null if unknown.
	captured(stream, frame) {
		if (!this.levels || !this.#late[0] || this.state?.stream !== stream) return null;
		return this.levels.time - (this.levels.frame - frame) / this.state.format.rate * 1000 + this.#late[0].ms - this.#way;
	}

	#open() {
		this.rest();
		// No more often than they are drawn.
		const source = this.#source = new EventSource(at(`${this.input ? `${this.input}/` : ''}levels?interval=100`));
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
			[this.state, this.stateAt, this.input] = [state, this.#last, state.input];
		});
		on('inputs', (inputs) => { this.inputs = inputs; });
		on('message', (levels) => {
			this.levels = levels;
			const [at, ms] = [this.#last, this.#last - levels.now];
			this.#late = [...this.#late.filter((old) => at - old.at < WINDOW_MS && old.ms < ms), { at, ms }];
		});
		source.onerror = () => {
			if (source !== this.#source) return;
			// The answer is no event stream.
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
	const took = asked.filter(({ transferSize }) => transferSize > 0).map((entry) => entry.responseStart - entry.requestStart).filter((ms) => ms > 0);
	return Math.min(...took, 1000) / 2 % 500;
}
