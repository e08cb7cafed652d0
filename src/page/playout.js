// Playout: holds the sound that came, at the distance that the jitter buffer wants, by up to half a percent of speed, which nobody
// hears, and by time-stretching. Where sound is missing its last part goes on for a moment and fades out. All times are in seconds.

import { Resampler } from './sound.js';
import { Tape } from './stretch.js';

// The span of which the least distance counts.
const SPAN = 0.3;
const MOST_FASTER = 0.005;
// From this deviation on, sound is stretched by a few per cent, in parts of at most this length.
const STRETCHED = 0.012;
const MOST_STRETCH = 0.04;
const LONGEST = 0.02;
// Where less than this share of the target is left, sound is stretched by more: a gap is worse. Not where the target is small.
const LITTLE = 0.92;
const NEED = 0.06;
const MOST_IN_NEED = 0.8;
// The similarity that a seam needs: less after waiting for a good place.
const ALIKE = { first: 0.9, last: 0.1, in: 1.5, need: 0.4 };
// A deviation to be skipped: stretching would take too long. Less after a gap, and while a device starts.
const SKIPPED = { usual: 0.12, gap: 0.1, first: 0.012 };
const SETTLES = 3;
// Past sound that is enough in any case.
const PAST = 1;
// Missing sound: the part before it goes on so long, and then fades out. It is made in chunks.
const HIDDEN = 0.05;
const FADES = 0.03;
const CHUNK = 0.01;
// After a gap, the share of the distance that has to be there.
const ENOUGH = 0.8;

export class Playout {
	gaps = 0;
	// Those that no late piece explains.
	unexplained = 0;
	// At the beginning, and in a gap.
	waits = true;
	// In frames.
	stretched = 0;
	#rate;
	#tape;
	#resampler;
	#target = 0;
	#late = 0;
	#excess = 0;
	#span;
	// Sound given out: since the start, since the wish to stretch, and when it was stretched last.
	#played = 0;
	#wish = 0;
	#last = { at: -1, length: 0 };
	#pushed = 0;
	#missed = 0;
	// True until the distance of past sound is known, then what it keeps at least.
	#back;

	constructor(rate, deviceRate, channels, back = false) {
		[this.#rate, this.#back] = [rate, back];
		this.#tape = new Tape(rate, channels);
		this.#resampler = new Resampler(rate, deviceRate, channels);
	}

	get queued() {
		return this.#tape.length / this.#rate;
	}

	// Of the stream, from the first piece on: what is given out next.
	get frame() {
		return this.#pushed - this.#tape.length;
	}

	// A piece came, `late` after its time, while the device had `ahead` to play. `target` is the wanted distance.
	push(piece, late, target, ahead) {
		const distance = this.queued + ahead + late;
		[this.#late, this.#target] = [late, target];
		this.#tape.push(piece);
		this.#pushed += piece[0].length;
		if (this.waits) {
			const excess = distance - target;
			// What comes too late is left out.
			if (!this.#back && excess > (this.gaps > 0 ? SKIPPED.gap : SKIPPED.first)) this.#tape.forget();
			else if (this.#back || distance >= target * (this.gaps > 0 ? ENOUGH : 1)) {
				this.waits = false;
				this.#excess = this.#back ? 0 : excess;
				this.#measure();
				this.#tape.fadeIn();
			}
			return;
		}
		const span = this.#span;
		span.least = Math.min(span.least, distance);
		span.left -= piece[0].length / this.#rate;
		if (span.left > 0) return;
		if (this.#back === true && this.#played > SETTLES) this.#back = Math.min(span.least, PAST);
		if (this.#back === false) this.#excess = span.least - target;
		else if (this.#back !== true) this.#excess = Math.min(0, span.least - this.#back);
		this.#measure();
	}

	// About `length` more for the device, which has `ahead`; if there is none and it `needs` some, what is heard instead; or null.
	give(length, ahead, needs) {
		if (this.waits) return null;
		const count = Math.min(this.#tape.length, Math.ceil(length * this.#rate));
		if (count === 0 || !this.#tape.returns()) return needs ? this.#miss() : null;
		this.#missed = 0;
		this.#stretch(count / this.#rate, this.queued + ahead);
		return this.#out(this.#tape.take(Math.min(this.#tape.length, count)));
	}

	starve() {
		if (this.waits) return;
		if (this.#missed < HIDDEN) this.#count();
		this.#wait();
	}

	#measure() {
		this.#span = { least: Infinity, left: SPAN };
	}

	#miss() {
		const [from, to] = [this.#missed, this.#missed + CHUNK];
		const gain = (at) => Math.min(1, Math.max(0, 1 - (at - HIDDEN) / FADES));
		// From here on it is heard.
		if (from < HIDDEN && gain(to + CHUNK / 2) < 1) this.#count();
		this.#missed = to;
		if (gain(from) === 0) return this.#wait();
		// What comes late is played late.
		this.#changed(-CHUNK * this.#rate);
		return this.#out(this.#tape.missing(Math.round(CHUNK * this.#rate), [gain(from), gain(to)]));
	}

	#count() {
		this.gaps++;
		if (this.#late < this.#target / 2) this.unexplained++;
	}

	#wait() {
		this.waits = true;
		this.#missed = 0;
		this.#resampler.clear();
		return null;
	}

	#out(piece) {
		this.#played += piece[0].length / this.#rate;
		return this.#resampler.push(piece, 1 + Math.max(-MOST_FASTER, Math.min(MOST_FASTER, this.#excess * 0.2)));
	}

	// Brings the sound nearer to its distance; `left` is there.
	#stretch(length, left) {
		const excess = this.#excess;
		if (!this.#back && excess > (this.#played < SETTLES ? SKIPPED.first : SKIPPED.usual)) {
			this.#changed(this.#tape.skip(Math.round(excess * this.#rate)));
			return;
		}
		if (left < this.#target * LITTLE && this.#target > NEED) {
			if (this.#may(MOST_IN_NEED)) this.#did(-this.#tape.lengthen(Infinity, ALIKE.need));
			return;
		}
		this.#wish = Math.abs(excess) < STRETCHED ? 0 : this.#wish + length;
		if (this.#wish === 0 || !this.#may(MOST_STRETCH)) return;
		const alike = ALIKE.first + (ALIKE.last - ALIKE.first) * Math.min(1, this.#wish / ALIKE.in);
		const most = Math.round(Math.min(Math.abs(excess), LONGEST) * this.#rate);
		this.#did(excess > 0 ? this.#tape.shorten(most, alike) : -this.#tape.lengthen(most, alike));
	}

	// Keeps the share of changed sound below `most`.
	#may(most) {
		return this.#played - this.#last.at > this.#last.length / most;
	}

	#did(count) {
		if (count === 0) return;
		this.#wish = 0;
		this.#last = { at: this.#played, length: Math.abs(count) / this.#rate };
		this.stretched += Math.abs(count);
		this.#changed(count);
	}

	// The distance has become shorter.
	#changed(count) {
		this.#excess -= count / this.#rate;
		this.#span.least -= count / this.#rate;
	}
}
