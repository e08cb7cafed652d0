// Background: the browser's own player, a second or two behind, for a phone whose screen is off. Web Audio is not used: iOS is
// silent there.

import { at } from './address.js';
import { bestCodec } from './codec.js';

const STUCK_MS = 8000;
const PAUSE_MS = { first: 500, most: 8000 };
// Extra delay in seconds to play faster; ten times as much restarts.
const LATE = 0.5;

export class Background {
	dropouts = 0;
	lastDropout = 0;
	audio = new Audio();
	// Of the server's streams of the input, besides WAV.
	codecs = [];
	#codec = 'wav';
	#tell;
	#name;
	#wanted = false;
	#stands = false;
	#back = 0;
	#timer = 0;
	#pause = 0;
	#asked = 0;
	#began = 0;
	#usual = Infinity;
	#moved = { at: 0, to: 0 };

	constructor(tell) {
		this.audio.preload = 'none';
		this.#tell = tell;
		const on = (name, act) => this.audio.addEventListener(name, () => this.#wanted && act());
		on('playing', () => this.#plays());
		on('waiting', () => {
			const { currentTime } = this.audio;
			// WebKit reports this and plays on.
			setTimeout(() => {
				if (!this.#began || !this.#wanted || this.audio.currentTime > currentTime) return;
				this.#stands = true;
				this.dropouts++;
				this.lastDropout = performance.now();
				tell('connecting');
			}, 500);
		});
		on('error', () => this.#later('lost'));
		on('ended', () => this.#later('ended'));
		// By the system: a call, another player.
		on('pause', () => this.audio.ended || this.audio.error || this.stop());
		setInterval(() => this.#look(), 1000);
	}

	// Call in a click.
	start(name, back = 0) {
		[this.#name, this.#back, this.#wanted, this.#pause] = [name, back, true, 0];
		this.#load();
	}

	stop(again = false) {
		if (!this.#wanted) return;
		this.#wanted = false;
		clearTimeout(this.#timer);
		this.audio.pause();
		// Otherwise fetching goes on.
		this.audio.removeAttribute('src');
		this.audio.load();
		if (!again) this.#tell('stopped');
	}

	nudge() {
		if (this.#wanted && (this.#timer || performance.now() - this.#moved.at > 3000)) this.#load();
	}

	get figures() {
		const { buffered, currentTime } = this.audio;
		if (!this.#began || buffered.length === 0) return null;
		// The buffer ahead, unless the player was given more than it takes at once.
		const ahead = buffered.end(buffered.length - 1) - currentTime;
		const past = this.#back + (performance.now() - this.#asked) / 1000 - currentTime;
		return { delay: 1000 * (this.#back ? past : ahead), back: this.#back, way: 'background', codec: this.#codec };
	}

	// Calls `tell` with true while there is another device, for AirPlay or Cast. It fetches the stream by itself.
	watchRemote(tell) {
		const { audio } = this;
		if (audio.remote) audio.remote.watchAvailability(tell).catch(() => tell(false));
		else audio.addEventListener('webkitplaybacktargetavailabilitychanged', ({ availability }) => tell(availability === 'available'));
	}

	// Call in a click.
	chooseRemote() {
		if (this.audio.remote) this.audio.remote.prompt().catch(() => {});
		else this.audio.webkitShowPlaybackTargetPicker?.();
	}

	#plays() {
		this.#began ||= performance.now();
		[this.#pause, this.#stands] = [0, false];
		this.#tell('playing', { back: this.#back });
	}

	#load() {
		clearTimeout(this.#timer);
		const [audio, now] = [this.audio, performance.now()];
		[this.#timer, this.#began, this.#usual, this.#asked, this.#moved] = [0, 0, Infinity, now, { at: now, to: 0 }];
		audio.playbackRate = 1;
		// The server's encoders may all be taken.
		this.#codec = this.#pause > PAUSE_MS.first ? 'wav' : bestCodec(this.codecs, (type) => audio.canPlayType(type), navigator);
		audio.src = at(`${this.#name}.${this.#codec}${this.#back > 0 ? `?back=${this.#back}` : ''}`);
		this.#tell('connecting');
		audio.play().catch(({ name }) => name === 'NotAllowedError' && this.stop());
	}

	#later(cause) {
		clearTimeout(this.#timer);
		this.#back = 0;
		const soon = cause === 'ended' && this.#began;
		this.#pause = soon ? 50 : Math.min(PAUSE_MS.most, Math.max(PAUSE_MS.first, this.#pause * 2));
		this.#tell('waiting', { cause });
		this.#timer = setTimeout(() => this.#load(), this.#pause * (0.75 + Math.random() / 2));
	}

	#look() {
		if (!this.#wanted || this.#timer) return;
		const [audio, now, { figures }] = [this.audio, performance.now(), this];
		if (audio.currentTime !== this.#moved.to) {
			this.#moved = { at: now, to: audio.currentTime };
			if (this.#stands) this.#plays();
		} else if (now - this.#moved.at > STUCK_MS) this.#later('lost');
		if (!figures || this.#back > 0) return;
		const delay = figures.delay / 1000;
		if (now - this.#began < 5000) this.#usual = Math.min(this.#usual, Math.max(delay, 0.5));
		else if (delay > this.#usual + 10 * LATE) this.#load();
		else if (delay > this.#usual + LATE) audio.playbackRate = 1.1;
		else if (delay < this.#usual + LATE / 4) audio.playbackRate = 1;
	}
}
