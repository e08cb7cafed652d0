// What the listener does to the sound: volume, mute, boost, and the channel of many. The stream stays as it is.

import { kept } from './dom.js';

// Time constant in seconds of a change, which must not click.
const SMOOTH = 0.015;
export const BOOSTS = [0, 10, 20, 30];

export class Volume {
	volume = Math.min(1, Math.max(0, Number(kept('volume') ?? 1) || 0));
	muted = false;
	// In dB.
	boost = 0;
	// The channel that is heard alone; null for all.
	channel = null;
	// An AnalyserNode of the sound as it comes, or null.
	analyser = null;
	#audio;
	#context = null;
	#entry;
	#mixer;
	#gain;
	#limiter;
	#channels = 2;

	// `audio` is the element of the browser's own player.
	constructor(audio) {
		this.#audio = audio;
		this.#apply();
	}

	// True if the element has a volume: an iPhone has only its buttons.
	get settable() {
		return Math.abs(this.#audio.volume - this.volume ** 2) < 0.01;
	}

	// The node into which sound goes; it ends at the loudspeaker.
	entry(context) {
		if (context === this.#context) return this.#entry;
		this.#context = context;
		this.#entry = new GainNode(context, { channelInterpretation: 'discrete' });
		this.analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
		this.#gain = new GainNode(context);
		// A limiter: what the boost drives beyond full scale is turned down, not cut.
		this.#limiter = new DynamicsCompressorNode(context, { threshold: -9, knee: 6, ratio: 20, attack: 0.002, release: 0.2 });
		this.#limiter.connect(context.destination);
		this.analyser.connect(this.#gain);
		this.#wire();
		this.#apply();
		return this.#entry;
	}

	set(change) {
		const before = [this.boost > 0, this.channel].join();
		Object.assign(this, change);
		if (this.channel !== null && this.channel >= this.#channels) this.channel = null;
		kept('volume', this.volume);
		if (this.#context && before !== [this.boost > 0, this.channel].join()) this.#wire();
		this.#apply();
	}

	// Tells the number of channels of the stream.
	channels(count) {
		if (count === this.#channels) return;
		this.#channels = count;
		this.channel = null;
		if (this.#context) this.#wire();
	}

	#wire() {
		const [context, count] = [this.#context, this.#channels];
		this.#entry.disconnect();
		this.#mixer?.disconnect();
		this.#mixer = null;
		if (count <= 2) this.#entry.connect(this.analyser);
		else {
			// Loudspeakers are two at most: all channels in equal parts, or one.
			const splitter = new ChannelSplitterNode(context, { numberOfOutputs: count });
			this.#mixer = new GainNode(context, { gain: this.channel === null ? 1 / count : 1, channelCount: 1, channelCountMode: 'explicit' });
			for (let c = 0; c < count; c++) if (this.channel === null || c === this.channel) splitter.connect(this.#mixer, c);
			this.#entry.connect(splitter);
			this.#mixer.connect(this.analyser);
		}
		// Without a boost nothing is in the way that could change the sound.
		this.#gain.disconnect();
		this.#gain.connect(this.boost > 0 ? this.#limiter : context.destination);
	}

	#apply() {
		const loudness = this.volume ** 2;
		this.#audio.muted = this.muted;
		this.#audio.volume = loudness;
		this.#gain?.gain.setTargetAtTime(this.muted ? 0 : loudness * 10 ** (this.boost / 20), this.#context.currentTime, SMOOTH);
	}
}
