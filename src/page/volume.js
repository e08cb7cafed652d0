// What the listener does to the sound: volume, mute, and boost. The stream stays as it is.

import { $, attribute, kept, options, set } from './dom.js';
import { words } from './words.js';

// In seconds: a change must not click.
const SMOOTH = 0.015;
const BOOSTS = [0, 10, 20, 30];

export class Volume {
	#volume = Math.min(1, Math.max(0, Number(kept('volume') ?? 1) || 0));
	#muted = false;
	#audio;
	#context = null;
	#entry;
	#mixer;
	#analyser;
	#bins = new Float32Array(4096);
	#gain;
	#limiter;
	#channels = 2;

	constructor(audio) {
		this.#audio = audio;
		$('boost').append(...options(BOOSTS.map((db) => [db, db ? `+${db} dB` : words.off])));
		$('mute').onclick = () => this.mute();
		$('volume').oninput = () => {
			[this.#volume, this.#muted] = [$('volume').value / 100, false];
			kept('volume', this.#volume);
			this.#apply();
		};
		$('boost').onchange = () => {
			if (this.#context) this.#wire();
			this.#apply();
		};
		this.#apply();
	}

	mute() {
		this.#muted = !this.#muted;
		this.#apply();
	}

	// For the own player or that of the browser.
	show(own) {
		set($('boosting'), 'hidden', !own);
		// An iPhone's element has no volume, only the phone has.
		const probe = Object.assign(new Audio(), { volume: 0.5 });
		set($('volume'), 'hidden', !own && probe.volume !== 0.5);
	}

	channels(count) {
		const changed = count !== this.#channels;
		this.#channels = count;
		if (changed && this.#context) this.#wire();
	}

	entry(context) {
		if (context === this.#context) return this.#entry;
		this.#context = context;
		this.#entry = new GainNode(context, { channelInterpretation: 'discrete' });
		this.#analyser = new AnalyserNode(context, { fftSize: 2 * this.#bins.length, smoothingTimeConstant: 0 });
		this.#gain = new GainNode(context);
		// What the boost drives beyond full scale is turned down, not cut.
		this.#limiter = new DynamicsCompressorNode(context, { threshold: -9, knee: 6, ratio: 20, attack: 0.002, release: 0.2 });
		this.#limiter.connect(context.destination);
		this.#analyser.connect(this.#gain);
		this.#wire();
		this.#apply();
		return this.#entry;
	}

	// The levels in dB of the sound as it comes, and the place of a frequency among them.
	get spectrum() {
		this.#analyser?.getFloatFrequencyData(this.#bins);
		return this.#analyser && { levels: this.#bins, place: (hertz) => hertz * 2 * this.#bins.length / this.#context.sampleRate };
	}

	#wire() {
		const [context, count] = [this.#context, this.#channels];
		this.#entry.disconnect();
		this.#mixer?.disconnect();
		if (count < 3) this.#entry.connect(this.#analyser);
		else {
			// Loudspeakers are two at most.
			const splitter = new ChannelSplitterNode(context, { numberOfOutputs: count });
			this.#mixer = new GainNode(context, { gain: 1 / count, channelCount: 1, channelCountMode: 'explicit' });
			for (let c = 0; c < count; c++) splitter.connect(this.#mixer, c);
			this.#entry.connect(splitter);
			this.#mixer.connect(this.#analyser);
		}
		// Without a boost nothing is in the way that could change the sound.
		this.#gain.disconnect();
		this.#gain.connect($('boost').value > 0 ? this.#limiter : context.destination);
	}

	#apply() {
		const loudness = this.#volume ** 2;
		[this.#audio.muted, this.#audio.volume] = [this.#muted, loudness];
		this.#gain?.gain.setTargetAtTime(this.#muted ? 0 : loudness * 10 ** ($('boost').value / 20), this.#context.currentTime, SMOOTH);
		set($('volume'), 'value', `${Math.round(100 * this.#volume)}`);
		attribute($('mute'), 'aria-pressed', this.#muted);
	}
}
