// All words of the page.

const seconds = (s) => {
	const [unit, name] = s < 90 ? [1, 's'] : s < 5400 ? [60, 'min'] : s < 172_800 ? [3600, 'h'] : [86_400, 'days'];
	return `${Math.round(s / unit)} ${name}`;
};
const length = (s) => (s < 120 || s % 60 > 0 ? `${s} s` : `${s / 60} min`);
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`.replace(/\.?$/, '.');

// Name of a channel.
export function channelName(channel, channels) {
	if (channels === 1) return 'Mono';
	if (channels === 2) return channel === 0 ? 'Left' : 'Right';
	return `${channel + 1}`;
}

export const texts = {
	// Initial texts of the page, by data-text.
	fixed: {
		input: 'Input',
		way: 'How to listen',
		live: 'Live',
		liveHint: 'as it happens',
		steady: 'Steady',
		steadyHint: 'in the pocket',
		again: 'Hear that again',
		toLive: 'Back to live',
		level: 'Level in dBFS',
		minute: 'The last minute',
		save: 'Save the last …',
		device: 'What it is',
		others: 'For other players and the phone',
		state: 'state for programs',
		onlyHere: 'The device talks to itself only: nobody else can reach this address.',
	},
	play: 'Play',
	stop: 'Stop',
	title: (input, station = 'wavecast') => (input ? `▶ ${input} · ${station}` : station),
	jump: (s) => `${s} s`,
	jumpLabel: (s) => `Hear the last ${s} s again`,
	save: (s) => length(s),
	saveLabel: (s) => `Save the last ${length(s)} as a WAV file`,

	// Current condition in one sentence.
	looking: 'Looking for the device …',
	gone: 'The device cannot be reached. The page looks for it and goes on by itself.',
	cut: 'The connection was lost. The page looks for it and plays on by itself.',
	noInput: (input) => `There is no input “${input}” any more.`,
	// Details for the owner are in the log.
	noSound: (problem) => `No sound yet: ${/no capture card/.test(problem) ? 'no sound card is plugged in.' : problem}`,
	opening: 'The sound card is being opened …',
	unplugged: (s) => `The sound card was unplugged ${seconds(s)} ago, waiting for it.`,
	lost: (problem, s) => `${sentence(problem)} Silent for ${seconds(s)}, waiting for it.`,
	deadAir: (problem) => `No sound: ${problem}.`,
	stopped: (input) => `Press play to hear “${input}” now.`,
	connecting: 'Starting …',
	refused: sentence,
	restarting: 'The stream begins anew …',
	slow: 'The network is too slow for uncompressed sound: changing to FLAC …',
	interrupted: 'This device has paused the sound. Press play to go on.',
	live: (input) => `You hear “${input}” live.`,
	lossless: (input) => `You hear “${input}” live, as FLAC because the network is slow.`,
	tooSlow: (input) => `You hear “${input}” with gaps: the network is too slow for Live.`,
	back: (s) => `You hear what was ${s} s ago.`,

	delay: (ms) => `${Math.round(ms)} ms behind the room`,
	about: (ms) => `about ${(ms / 1000).toFixed(1)} s behind the room`,
	heardAt: (time) => `at ${time}`,

	decibels: (db) => (db < -150 ? '−∞' : db.toFixed(1).replace('-', '−')),
	meter: (channel) => `${channel}, peak level in dBFS`,
	clipped: (channel, count) => `${channel}: ${count} samples clipped${count > 0 ? '; press to forget them' : ''}`,
	pitches: 'Pitches of the last minute: high ones above, loud ones bright, now on the right.',
	loudness: 'Loudness of the last minute, now on the right. While you listen Live, it shows the pitches.',

	facts: {
		card: 'Sound card',
		format: 'Format',
		listeners: 'Listeners',
		overruns: 'Overruns',
		losses: 'Card lost',
		dropouts: 'Gaps on this page',
	},
	format: ({ rate, channels, sample }) => {
		const places = ['', 'mono', 'stereo'][channels] ?? `${channels} channels`;
		return `${rate / 1000}\xA0kHz, ${places}, ${sample.slice(1)}\xA0bit`;
	},
	times: (count) => (count === 0 ? 'none' : count === 1 ? 'once' : `${count} times`),
	gaps: (count, s) => (count === 0 ? 'none' : `${count}, the last ${seconds(s)} ago`),

	copy: 'Copy',
	copied: 'Copied',
	copyLabel: (address) => `Copy ${address}`,
	code: (address) => `QR code of ${address}`,
	version: (version) => `wavecast ${version}`,
};
