// The rule of the jitter buffer: how far behind the quickest piece of sound to play, from how late the pieces came. It knows no
// clock, no Web Audio and no page. All times are in seconds.

// The latest piece of each of these spans counts.
const SPAN = 0.25;
// How long a span counts, and from which age on it counts less and less.
const MEMORY = 55;
const FADES = 25;
// What a young memory has not seen: so much more than the latest piece, less and less until this age.
const UNSEEN = 0.7;
const YOUNG = 20;
// How much later than the second latest span the latest one may be to count as a whole: once is chance.
const ONCE = { times: 2, more: 0.03 };
// What is rare counts for longer, but no more than this: times what is usual, and so much more or a short distance in all.
const RARE_MEMORY = 300;
const RARE = { times: 2.5, more: 0.03, short: 0.15 };
// The share of the target that stretching bridges (playout.js), and what it adds for its own pace.
const BRIDGED = 0.12;
const PACE = 0.006;
const MOST = 0.6;
// A way with another delay: the quickest piece differs by this much from those before, when slower for so many spans.
const OTHER = 0.05;
const LASTS = 12;
// The distance before much is known, and until when.
const UNKNOWN = 0.06;
const KNOWN = 1;
// Too little gets through if even the quickest pieces of the last spans come later and later, in all by so much; or if the way has
// become slower so many times within some seconds.
const NARROW = { rise: 0.6, times: 4, within: 20 };

const quickestOf = (spans) => spans.reduce((least, { first }) => Math.min(least, first), Infinity);

export class Jitter {
	target;
	// Too little gets through.
	narrow = false;
	#least;
	#began = null;
	#spans = [];
	#quickest = Infinity;
	#slower = [];

	constructor(least) {
		this.#least = least;
		this.target = Math.max(least, UNKNOWN);
	}

	get least() {
		return this.#least;
	}

	set least(least) {
		this.#least = least;
		this.#decide();
	}

	// A piece came at `at` that begins `start` after the first one. Returns how much later it came than the quickest. Unless it
	// `counts`, the target stays.
	came(at, start, counts = true) {
		const late = at - start;
		this.#began ??= at;
		let span = this.#spans.at(-1);
		if (!span || at - span.at >= SPAN) {
			if (span) this.#watch(span);
			this.#spans.push(span = { at, first: late, last: -Infinity });
			while (at - this.#spans[0].at > RARE_MEMORY) this.#spans.shift();
			this.#quickest = quickestOf(this.#recent(span));
		}
		span.first = Math.min(span.first, late);
		this.#quickest = Math.min(this.#quickest, late);
		if (counts && late > span.last) {
			span.last = late;
			this.#decide();
		}
		return late - this.#quickest;
	}

	#recent({ at }) {
		return this.#spans.filter((span) => at - span.at < MEMORY);
	}

	#watch(span) {
		const [before, recent] = [this.#spans.slice(0, -LASTS), this.#spans.slice(-LASTS)];
		// The way has become quicker, or what had piled up on it is gone: what was late before says nothing any more.
		const others = this.#spans.slice(0, -1);
		if (span.first < quickestOf(others) - OTHER) for (const old of others) old.last = -Infinity;
		// The way has become slower for good, or the server has left out sound: what was quick before says nothing any more.
		if (quickestOf(recent) > quickestOf(before) + OTHER) {
			for (const old of before) old.first = Infinity;
			this.#slower.push(span.at);
		}
		this.#slower = this.#slower.filter((at) => span.at - at < NARROW.within);
		const firsts = recent.map(({ first }) => first);
		const rises = recent.length === LASTS && firsts.every((first, i) => i === 0 || first > firsts[i - 1]);
		this.narrow = (rises && firsts.at(-1) - firsts[0] > NARROW.rise) || this.#slower.length >= NARROW.times;
	}

	#decide() {
		const newest = this.#spans.at(-1);
		if (!newest) return;
		const quickest = this.#quickest;
		const weight = ({ at }) => Math.min(1, (MEMORY - newest.at + at) / (MEMORY - FADES));
		const lates = this.#recent(newest).map((span) => (span.last - quickest) * weight(span)).sort((a, b) => b - a);
		const rarest = this.#spans.reduce((most, { last }) => Math.max(most, last - quickest), 0);
		const [first, second = 0] = lates.filter((late) => late >= 0);
		// A young memory lets none pass, an old one lets the latest pass, over which sound is stretched or a gap is heard.
		const age = newest.at - this.#began;
		const none = Math.min(first * (1 + UNSEEN * Math.max(0, 1 - age / YOUNG)), second * ONCE.times + ONCE.more);
		const passed = none + (second - none) * Math.min(1, age / MEMORY);
		const needed = Math.max(passed, Math.min(rarest, second * RARE.times, Math.max(passed + RARE.more, RARE.short)));
		const least = age < KNOWN ? Math.max(this.#least, UNKNOWN) : this.#least;
		this.target = Math.min(MOST, Math.max(least, needed * (1 - BRIDGED) + PACE));
	}
}
