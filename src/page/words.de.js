// German.

const ago = (s) => {
	const [unit, one, many] = s < 90 ? [1, 's', 's'] : s < 5400 ? [60, 'min', 'min'] : s < 172_800 ? [3600, 'h', 'h'] : [86_400, 'Tag', 'Tagen'];
	const count = Math.round(s / unit);
	return `${count} ${count === 1 ? one : many}`;
};
const comma = (number) => `${number}`.replace('.', ',');
const length = (s) => (s < 120 || s % 60 > 0 ? `${comma(Math.round(s * 10) / 10)} s` : `${s / 60} min`);

export const de = {
	fixed: {
		inputs: 'Eingänge',
		level: 'Pegel',
		way: 'Wiedergabe',
		live: 'Live',
		liveHint: 'geringste Verzögerung',
		background: 'Hintergrund',
		backgroundHint: 'spielt bei ausgeschaltetem Bildschirm weiter',
		volume: 'Lautstärke',
		boost: 'Verstärkung',
		mix: 'Kanal',
		toLive: 'Zurück zu live',
		clear: 'Löschen',
		spectrogram: 'Spektrogramm, letzte 60 s',
		scale: 'Skala',
		range: 'Bis',
		full: 'Vollbild',
		apps: 'In einer anderen App hören',
		host: 'Adresse',
		scan: 'Scannen und auf dem Handy öffnen',
		onlyHere: 'Nur dieser Rechner kann diese Adresse öffnen.',
		commands: 'Befehle und Einbetten',
		frames: 'Eine Seite, die den Player zeigt, muss in [access] frames stehen.',
		connection: 'Verbindung',
		status: 'Status (JSON)',
		share: 'Teilen',
		keys: 'Tastenkürzel',
		close: 'Schließen',
	},
	play: 'Wiedergabe',
	stop: 'Stopp',
	tab: (title, playing) => (playing ? `▶ ${title}` : title),
	channel: (c, channels) => (channels === 1 ? 'Mono' : channels === 2 ? ['Links', 'Rechts'][c] : `${c + 1}`),

	condition: {
		looking: 'Verbinden …',
		gone: 'Gerät nicht erreichbar. Neuer Versuch …',
		cut: 'Verbindung verloren. Neuer Versuch …',
		full: 'Auf diesem Gerät sind zu viele Seiten offen. Neuer Versuch …',
		noInput: (name) => `Es gibt keinen Eingang „${name}“.`,
		noCard: 'Noch keine Soundkarte',
		inUse: 'Ein anderes Programm benutzt die Soundkarte.',
		noSound: 'Die Soundkarte lässt sich nicht öffnen.',
		opening: 'Soundkarte wird geöffnet …',
		unplugged: (s) => `Soundkarte vor ${ago(s)} abgezogen. Warten …`,
		lost: (s) => `Soundkarte vor ${ago(s)} verloren. Warten …`,
		dead: 'Das Gerät liefert keinen Ton.',
		stopped: (title) => (title ? `„${title}“ anhören: Wiedergabe drücken` : 'Zum Hören Wiedergabe drücken'),
		connecting: 'Startet …',
		refused: (reason) => reason,
		restarting: 'Startet neu …',
		interrupted: 'Von Ihrem Gerät angehalten. Weiter mit Wiedergabe.',
		live: (title) => (title ? `Live: ${title}` : 'Sie hören live'),
		back: (s) => `Sie hören, was vor ${ago(s)} war`,
	},
	detail: (text) => text,
	choose: 'Verfügbar:',
	lastContact: (time) => `Letzter Kontakt um ${time}`,
	delay: (s) => [comma(s), 'Verzögerung'],
	about: (s) => [`≈ ${comma(s)}`, 'Verzögerung'],
	capturedAt: (time) => [time, 'aufgenommen'],
	codec: (name) => name.toUpperCase().replace('OPUS', 'Opus'),

	mute: 'Stumm',
	unmute: 'Ton an',
	noBoost: 'Aus',
	decibels: (db) => (db < -150 ? '−∞' : comma(db.toFixed(1)).replace('-', '−')),
	gain: (db) => `+${db} dB`,
	allChannels: 'Alle',
	meter: (channel) => `${channel}, Spitzenpegel in dBFS`,
	clipped: (channels, count, time) => `Übersteuert um ${time}: ${channels} (${count} ${count === 1 ? 'Sample' : 'Samples'})`,
	cast: 'Auf anderem Gerät abspielen',

	history: (s) => `Letzte ${length(s)}`,
	timeline: 'Pegel der aufbewahrten Aufnahme. Rechts ist jetzt.',
	playhead: 'Wiedergabeposition',
	from: 'Anfang der Auswahl',
	to: 'Ende der Auswahl',
	now: 'jetzt',
	secondsAgo: (s) => `vor ${length(Math.round(s * 10) / 10)}`,
	save: (s) => `${length(s)} speichern`,
	saveLabel: (s) => `${length(s)} speichern: die Auswahl als WAV-Datei`,

	pitches: 'Frequenzen der letzten 60 s: hohe oben, laute hell, rechts ist jetzt.',
	scales: { log: 'log', mel: 'mel', linear: 'linear' },
	pointed: (s, hertz, db) => `−${comma(s.toFixed(1))} s · ${hertz < 1000 ? `${Math.round(hertz)} Hz` : `${comma((hertz / 1000).toFixed(2))} kHz`} · ${db}`,

	inputState: { waiting: 'keine Karte', lost: 'Karte verloren' },

	uses: {
		wav: 'exakt, für VLC, OBS, ffmpeg',
		flac: 'exakt, etwa halb so viele Daten',
		mp3: 'Sonos, Radio-Apps, alte Player',
		opus: 'am wenigsten Daten, für Browser und Handys',
	},
	playlist: 'Playlist',
	copy: 'Kopieren',
	copied: 'Kopiert',
	copyLabel: (what) => `${what} kopieren`,
	code: (address) => `QR-Code von ${address}`,
	shortcuts: {
		' ': ['Leertaste', 'Wiedergabe oder Stopp'],
		m: ['M', 'stumm'],
		ArrowLeft: ['←', '5 s zurück'],
		ArrowRight: ['→', '5 s vor'],
		l: ['L', 'zurück zu live'],
		f: ['F', 'Spektrogramm im Vollbild'],
		'?': ['?', 'diese Liste'],
	},

	facts: {
		card: 'Soundkarte',
		format: 'Format',
		playing: 'Wiedergabe hier als',
		listeners: 'Hörer',
		overruns: 'Ton am Gerät verloren',
		losses: 'Gerät getrennt',
		dropouts: 'Aussetzer in diesem Browser',
	},
	noCard: 'noch keine',
	format: ({ rate, channels, sample }) => {
		const places = ['', 'mono', 'stereo'][channels] ?? `${channels} Kanäle`;
		return `${comma(rate / 1000)}\xA0kHz, ${places}, ${sample.slice(1)}\xA0Bit`;
	},
	dropouts: (count, s) => (count === 0 ? '0' : `${count}, der letzte vor ${ago(s)}`),
	push: (name, state, detail) => [`Sendung an ${name}`, detail || state],
	version: (version) => `wavecast ${version}`,
};
