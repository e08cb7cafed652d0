// English.

const ago = (s) => {
	const [unit, name] = s < 90 ? [1, 's'] : s < 5400 ? [60, 'min'] : s < 172_800 ? [3600, 'h'] : [86_400, 'days'];
	return `${Math.round(s / unit)} ${name}`;
};
const length = (s) => (s < 120 || s % 60 > 0 ? `${Math.round(s * 10) / 10} s` : `${s / 60} min`);
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`.replace(/\.?$/, '.');

export const en = {
	// Texts that stay, by data-text.
	fixed: {
		inputs: 'Inputs',
		level: 'Level',
		way: 'How to listen',
		live: 'Live',
		liveHint: 'lowest delay',
		background: 'Background',
		backgroundHint: 'keeps playing with the screen off',
		volume: 'Volume',
		boost: 'Boost',
		mix: 'Channel',
		toLive: 'Back to live',
		clear: 'Clear',
		spectrogram: 'Spectrogram, last 60 s',
		scale: 'Scale',
		range: 'Up to',
		full: 'Full screen',
		apps: 'Listen in another app',
		host: 'Address',
		scan: 'Scan to open on your phone',
		onlyHere: 'Only this computer can open this address.',
		commands: 'Commands and embedding',
		frames: 'A site that shows the player must be listed in [access] frames.',
		connection: 'Connection',
		status: 'Status (JSON)',
		share: 'Share',
		keys: 'Keyboard shortcuts',
		close: 'Close',
	},
	play: 'Play',
	stop: 'Stop',
	tab: (title, playing) => (playing ? `▶ ${title}` : title),
	channel: (c, channels) => (channels === 1 ? 'Mono' : channels === 2 ? ['Left', 'Right'][c] : `${c + 1}`),

	// The condition in one sentence.
	condition: {
		looking: 'Connecting…',
		gone: 'Device not reachable. Reconnecting…',
		cut: 'Connection lost. Reconnecting…',
		full: 'Too many pages are open on this device. Trying again…',
		noInput: (name) => `There is no input “${name}”.`,
		noCard: 'No sound card yet',
		inUse: 'The sound card is in use by another program.',
		noSound: 'The sound card cannot be opened.',
		opening: 'Opening the sound card…',
		unplugged: (s) => `Sound card unplugged ${ago(s)} ago. Waiting for it…`,
		lost: (s) => `Sound card lost ${ago(s)} ago. Waiting for it…`,
		dead: 'The device delivers no sound.',
		stopped: (title) => (title ? `Press play to listen to “${title}”` : 'Press play to listen'),
		connecting: 'Starting…',
		refused: (reason) => sentence(reason),
		restarting: 'Restarting…',
		slow: 'Slow network. Changing to FLAC…',
		interrupted: 'Paused by your device. Press play to go on.',
		live: (title) => (title ? `Listening live: ${title}` : 'Listening live'),
		lossless: (title) => `Listening live by FLAC: the network is slow${title ? `. ${title}` : ''}`,
		tooSlow: 'The network is too slow for Live.',
		back: (s) => `Listening to ${ago(s)} ago`,
	},
	detail: sentence,
	choose: 'Available:',
	lastContact: (time) => `Last contact at ${time}`,
	delay: (s) => [s, 'delay'],
	about: (s) => [`≈ ${s}`, 'delay'],
	capturedAt: (time) => [time, 'captured'],
	codec: (name) => name.toUpperCase().replace('OPUS', 'Opus'),

	mute: 'Mute',
	unmute: 'Unmute',
	noBoost: 'Off',
	decibels: (db) => (db < -150 ? '−∞' : db.toFixed(1).replace('-', '−')),
	gain: (db) => `+${db} dB`,
	allChannels: 'All',
	meter: (channel) => `${channel}, peak level in dBFS`,
	clipped: (channels, count, time) => `Clipped at ${time}: ${channels} (${count} ${count === 1 ? 'sample' : 'samples'})`,
	cast: 'Play on another device',

	history: (s) => `Last ${length(s)}`,
	timeline: 'Level of the kept sound. Now is on the right.',
	playhead: 'Playback position',
	from: 'Start of the selection',
	to: 'End of the selection',
	now: 'now',
	secondsAgo: (s) => `${length(Math.round(s * 10) / 10)} ago`,
	save: (s) => `Save ${length(s)}`,
	saveLabel: (s) => `Save ${length(s)} of the selection as a WAV file`,

	pitches: 'Frequencies of the last 60 s: high ones above, loud ones bright, now on the right.',
	scales: { log: 'log', mel: 'mel', linear: 'linear' },
	pointed: (s, hertz, db) => `−${s.toFixed(1)} s · ${hertz < 1000 ? `${Math.round(hertz)} Hz` : `${(hertz / 1000).toFixed(2)} kHz`} · ${db}`,

	inputState: { waiting: 'no card', lost: 'card lost' },

	uses: {
		wav: 'exact, for VLC, OBS, ffmpeg',
		flac: 'exact, about half the data',
		mp3: 'Sonos, radio apps, old players',
		opus: 'least data, browsers and phones',
	},
	playlist: 'Playlist',
	copy: 'Copy',
	copied: 'Copied',
	copyLabel: (what) => `Copy ${what}`,
	code: (address) => `QR code of ${address}`,
	shortcuts: {
		' ': ['Space', 'play or stop'],
		m: ['M', 'mute'],
		ArrowLeft: ['←', '5 s back'],
		ArrowRight: ['→', '5 s forward'],
		l: ['L', 'back to live'],
		f: ['F', 'spectrogram in full screen'],
		'?': ['?', 'this list'],
	},

	facts: {
		card: 'Sound card',
		format: 'Format',
		playing: 'Playing here as',
		listeners: 'Listeners',
		overruns: 'Audio lost at the device',
		losses: 'Device disconnected',
		dropouts: 'Dropouts in this browser',
	},
	noCard: 'none yet',
	format: ({ rate, channels, sample }) => {
		const places = ['', 'mono', 'stereo'][channels] ?? `${channels} channels`;
		return `${rate / 1000}\xA0kHz, ${places}, ${sample.slice(1)}\xA0bit`;
	},
	dropouts: (count, s) => (count === 0 ? '0' : `${count}, the last ${ago(s)} ago`),
	push: (name, state, detail) => [`Sent to ${name}`, detail ? `${state}: ${detail}` : state],
	version: (version) => `wavecast ${version}`,
};
