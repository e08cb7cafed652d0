// The page: it connects the server's events, the two players, and the display.

import { at } from './address.js';
import { showApps } from './apps.js';
import { Background } from './background.js';
import { $, attribute, fill, kept, label, make, set, write } from './dom.js';
import { Events } from './events.js';
import { Inputs } from './inputs.js';
import { listen } from './keys.js';
import { Live, prepare, supported } from './live.js';
import { Meters } from './meters.js';
import { Spectrogram } from './spectrogram.js';
import { condition, isStale } from './condition.js';
import { Timeline } from './timeline.js';
import { TimelineView } from './timeline_view.js';
import { BOOSTS, Volume } from './volume.js';
import { language, words } from './words.js';

// Number of values in the median of the delay.
const FIGURES = 9;
// Seconds of a step back by the keyboard.
const STEP = 5;
// Events with levels that are kept for sound that is heard later: a minute.
const LOG = 600;

document.documentElement.lang = language;
for (const element of document.querySelectorAll('[data-text]')) write(element, words.fixed[element.dataset.text]);
for (const element of document.querySelectorAll('[data-label]')) label(element, words.fixed[element.dataset.label]);
for (const link of document.querySelectorAll('footer a')) link.href = at(link.getAttribute('href'));
document.body.classList.toggle('embed', /\/embed$/.test(location.pathname));

const events = new Events((kind) => ({ hello, state: news, levels, inputs: others, refused, lost: describe })[kind]());
const live = new Live(events, (...news) => heard(live, ...news));
const background = new Background((...news) => heard(background, ...news));
const volume = new Volume(background.audio);
live.output = (context) => volume.entry(context);
const meters = new Meters($('meters'));
const inputs = new Inputs(select);
const spectrogram = new Spectrogram($('pitches'));
const timeline = new Timeline();
const timelineView = new TimelineView(timeline, { seek, selected: showSave });
const ways = [...document.getElementsByName('way')];

// The input's name; null for the first one.
let input = new URLSearchParams(location.search).get('input');
// The name that the page was asked for, or that it played, if there is no such input.
let missing = null;
// The name whose events were refused, while the first input's events are to tell why.
let sought = null;
let player = supported && kept('way') !== 'background' ? live : background;
// Player state (stopped, connecting, playing, waiting, interrupted) and its details.
let state = 'stopped';
let detail = {};
let delays = [];
let count = 0;
let log = [];
// Play as soon as there is an input with sound.
let due = false;
// True if the server has no place for this page.
let full = false;

// Player: events and commands.

const going = () => due || (state !== 'stopped' && state !== 'interrupted');

function heard(who, next, more = {}) {
	if (who !== player) return;
	[state, detail, delays] = [next, more, []];
	describe();
}

function start(back = 0) {
	// Until then a request would only be refused. Otherwise at once, in the click: iOS wants that.
	due = Boolean(missing || !input || events.state?.phase === 'waiting');
	if (due) {
		if (player === live) prepare();
		heard(player, 'connecting');
		return;
	}
	player.start(input, back);
	const session = navigator.mediaSession;
	if (!session) return;
	// For lock screens and headphone keys.
	const artwork = [192, 512].map((size) => ({ src: at(`icon-${size}.png`, import.meta.url), sizes: `${size}x${size}`, type: 'image/png' }));
	session.metadata = new MediaMetadata({ title: title(), artist: events.state?.station ?? location.hostname, album: 'wavecast', artwork });
	session.setActionHandler('play', () => start());
	for (const key of ['pause', 'stop']) session.setActionHandler(key, stop);
	session.setActionHandler('seekbackward', () => step(STEP));
}

function stop() {
	if (due) [due, state] = [false, 'stopped'];
	player.stop();
	describe();
}

// Plays from `seconds` ago; live if that is less than the delay of playing live.
function seek(seconds) {
	const most = events.state?.history_seconds ?? 0;
	const back = Math.min(most, Math.max(0, Math.round(seconds * 10) / 10));
	start(back < 0.5 ? 0 : back);
}

// Steps back or forward from what is heard.
function step(seconds) {
	const past = state === 'playing' && detail.back;
	if (!events.state?.history_seconds || (seconds < 0 && !past)) return;
	seek(seconds + (past ? (player.figures?.delay ?? 0) / 1000 : 0));
}

function choose(other) {
	if (other === player) return;
	const was = going();
	player.stop(was);
	player = other;
	kept('way', player === live ? 'live' : 'background');
	[state, detail] = ['stopped', {}];
	if (was) start();
	describe();
}

// Changes to another input of this device.
function select(name) {
	const was = going();
	if (was && name !== input) player.stop(true);
	[input, missing] = [name, null];
	const url = new URL(location);
	url.searchParams.set('input', name);
	history.replaceState(null, '', url);
	forget();
	events.watch(name);
	if (was) start();
	describe();
}

function forget() {
	log = [];
	meters.clear();
	timeline.clear();
	spectrogram.clear();
}

// Server events.

function hello() {
	full = false;
	// After the display: without a loudspeaker some browsers take long.
	if (player === live) setTimeout(prepare, 300);
	write($('version'), words.version(events.hello.version));
}

function levels() {
	if (missing || sought) return;
	// Without playback five draws a second are enough.
	const draw = going() || ++count % 2 === 0;
	const { frame, levels } = events.levels;
	timeline.add(events.state.stream, frame, loudest(levels));
	log = [...log.slice(1 - LOG), events.levels];
	const heard = heardLevels();
	meters.show(heard, draw);
	if (!draw || document.hidden) return;
	showTime();
	$('play').style.setProperty('--level', Math.max(0, 1 + loudest(heard) / 50).toFixed(2));
}

const loudest = (levels) => Math.max(...levels.map(([peak]) => peak ?? -200));

// The levels of what is heard, as far back as they are known; those of now while nothing of the past is played.
function heardLevels() {
	const { levels } = events.levels;
	const delay = median();
	if (state !== 'playing' || !detail.back || delay === null) return levels;
	const frame = timeline.frameAgo(delay / 1000);
	const then = log[0].frame <= frame && log.findLast((event) => event.frame <= frame);
	// From before this page was opened there is one peak for all channels. The clipping is counted as it comes.
	const peak = timeline.peakAt(frame);
	return levels.map(([, , clipped], c) => [then ? then.levels[c]?.[0] : peak, then ? then.levels[c]?.[1] : peak, clipped]);
}

const others = () => inputs.levels(events.inputs);

function news() {
	const told = events.state;
	if (sought) {
		const name = sought;
		sought = null;
		if (!told.inputs.includes(name)) miss(name);
		// Refused by a server that was full. This page's own place takes a moment to be free again.
		else if (told.input !== name) return setTimeout(() => events.watch(name), 500);
	}
	if (missing && told.inputs.includes(missing)) return select(missing);
	if (!missing) input = told.input;
	if (told.phase === 'waiting') {
		meters.clear();
		// Requests for a stream that does not exist would be refused again and again.
		if (going() && !due) {
			player.stop(true);
			[due, state] = [true, 'connecting'];
		}
	} else if (due && !missing) start();
	// The stream that the player waits for exists now.
	else if (state === 'waiting' && told.phase === 'capturing') player.nudge();
	background.codecs = told.codecs ?? [];
	volume.channels(told.format?.channels ?? 2);
	timeline.history = told.history_seconds;
	if (!missing && told.stream !== timeline.stream && told.stream) past();
	showInput();
	describe();
}

// Fetches the levels of the kept sound, from before this page was opened.
async function past() {
	const { input, stream } = events.state;
	const answer = await fetch(at(`${input}/history`), { cache: 'no-store' }).catch(() => null);
	const history = answer?.ok && await answer.json().catch(() => null);
	if (history?.stream === stream && events.state?.stream === stream) timeline.load(history);
}

// Handles a refusal: an input that is not there, or no place for this page. The first input's events tell which.
function refused() {
	if (!events.input) full = true;
	else {
		// Or what was shown in place of the missing one is gone, too.
		if (!missing) sought = events.input;
		events.watch(null);
	}
	describe();
}

// There is no such input, or not any more.
function miss(name) {
	if (going()) {
		player.stop(true);
		[due, state] = [true, 'connecting'];
	}
	[missing, input] = [name, null];
	forget();
}

// Display.

// The input's title, and the title of the page: the station's, with one input that has no title.
const title = () => events.state?.title ?? input ?? '';
const several = () => (events.state?.inputs.length ?? 0) > 1;

function showInput() {
	const { inputs: names, titles, station, title: own, codecs = [] } = events.state;
	const named = !missing && (several() || own !== input);
	const heading = named ? own : (station ?? 'wavecast');
	write($('title'), heading);
	const host = /^(localhost|127\.|\[)/.test(location.host) ? '' : location.hostname;
	write($('station'), [named && (station ?? 'wavecast'), host].filter(Boolean).join(' · '));
	inputs.show(names, titles, missing ? null : input);
	write($('choose'), missing ? words.choose : '');
	$('mixing').hidden = !((events.state.format?.channels ?? 0) > 2);
	const channels = events.state.format?.channels ?? 0;
	fill($('mix'), `${channels}`, () => [words.allChannels, ...Array.from({ length: channels }, (_, c) => words.channel(c, channels))]
		.map((textContent, i) => make('option', { value: i - 1, textContent })));
	for (const card of document.querySelectorAll('.apps, .facts')) card.hidden = Boolean(missing);
	if (!missing) showApps({ input, title: title(), codecs, hello: events.hello, several: several() });
	showSave();
}

function showSave() {
	const selected = timeline.selected;
	const none = missing || !events.state?.history_seconds;
	$('save').hidden = none || !selected || !events.connected;
	$('past').hidden = Boolean(none);
	write($('pasttitle'), events.state ? words.history(events.state.history_seconds) : '');
	if (none || !selected) return;
	const seconds = Math.round(selected.seconds * 10) / 10;
	const utc = `utc=${-new Date().getTimezoneOffset()}`;
	const part = selected.usual ? `last=${seconds}` : `stream=${timeline.stream}&from=${Math.round(selected.from)}&to=${Math.round(selected.to)}`;
	set($('save'), 'href', at(`${input}.wav?${part}&${utc}`));
	write($('save'), words.save(seconds));
	label($('save'), words.saveLabel(seconds));
}

const median = () => [...delays].sort((a, b) => a - b)[delays.length >> 1] ?? null;

// What depends on the time: where one is, and the pictures.
function showTime() {
	const delay = median();
	timelineView.show(state === 'playing' && delay !== null ? delay / 1000 : null);
	if (state === 'playing' && player === live) spectrogram.hear(volume.analyser);
	else spectrogram.hear(null);
	if (!$('spectrum').hidden) spectrogram.draw();
}

function describe() {
	const figures = state === 'playing' ? player.figures : null;
	// The median, since single values are off by some ms.
	if (typeof figures?.delay === 'number') delays = [...delays, figures.delay].slice(-FIGURES);
	const delay = median();
	const told = events.state;
	const alone = events.connected ? 0 : performance.now() - events.alone;
	const now = { told, age: performance.now() - events.stateAt, alone, state, detail, delay, missing, full, title: several() ? title() : '' };
	const [key, text] = condition(now);
	const stale = isStale(now);
	set($('main').dataset, 'state', state);
	set($('main').dataset, 'stale', stale ? 'true' : 'false');
	set($('play'), 'disabled', Boolean(missing && !going()));
	label($('play'), going() ? words.stop : words.play);
	set($('main').dataset, 'going', going() ? 'true' : 'false');
	write($('status'), text);
	set(document, 'title', words.tab($('title').textContent, state === 'playing'));
	if ($('main').dataset.words !== key) {
		$('main').dataset.words = key;
		// Once per key: screen readers must not read every second.
		$('said').textContent = text;
	}
	showDelay(stale && !detail.back ? null : delay);
	// For tests and the curious.
	set($('delay').dataset, 'ms', delay?.toFixed(1) ?? '');
	set($('delay').dataset, 'figures', JSON.stringify(figures));
	// What the server says about its card, in its own words, and the age of what is shown.
	const problem = ['inUse', 'noSound', 'lost', 'dead'].includes(key) ? words.detail(told.problem) : '';
	const late = alone && stale && events.contact ? words.lastContact(new Date(events.contact).toLocaleTimeString()) : '';
	write($('detail'), late || problem);
	set($('tolive'), 'hidden', !(state === 'playing' && detail.back));
	for (const radio of ways) set(radio, 'checked', (radio.value === 'live') === (player === live));
	const hearing = state === 'playing' && player === live;
	if (hearing) set($('spectrum'), 'hidden', false);
	facts(figures, stale);
	showSave();
	if (stale && told) showTime();
}

// The number large, the word small.
function showDelay(delay) {
	const s = delay === null ? '' : `${(delay / 1000).toFixed(delay < 995 ? 2 : 1)} s`;
	let parts = [];
	if (delay !== null && detail.back) parts = words.capturedAt(new Date(Date.now() - delay).toLocaleTimeString());
	else if (delay !== null) parts = player === live ? words.delay(s) : words.about(s);
	const [number, ...rest] = parts;
	fill($('delay'), parts.join(' '), () => (number ? [make('b', { textContent: number }), ` ${rest.join(' ')}`] : []));
}

function facts(figures, stale) {
	const told = events.state;
	const values = {
		card: told && (told.card ?? (told.phase === 'waiting' ? words.noCard : told.device)),
		format: told?.format && words.format(told.format),
		playing: figures?.codec && words.codec(figures.codec),
		listeners: told?.listeners,
		overruns: told?.overruns,
		losses: told?.losses,
		dropouts: words.dropouts(player.dropouts, (performance.now() - player.lastDropout) / 1000),
	};
	for (const [fact, value] of Object.entries(values)) {
		write($(fact), `${value ?? '–'}`);
		set($(fact).parentElement, 'hidden', fact === 'playing' && !value);
		set($(fact).parentElement, 'className', stale && fact !== 'dropouts' ? 'old' : '');
	}
	const pushes = told?.pushes ?? [];
	fill($('pushes'), JSON.stringify(pushes), () => pushes.map(({ name, state, detail }) => {
		const [to, what] = words.push(name, state, detail);
		return make('li', {}, make('b', { textContent: to }), ` ${what}`);
	}));
}

function showVolume() {
	set($('volume'), 'value', `${Math.round(100 * volume.volume)}`);
	attribute($('mute'), 'aria-pressed', volume.muted);
	label($('mute'), volume.muted ? words.unmute : words.mute);
	set($('boost'), 'value', `${volume.boost}`);
	set($('boosting'), 'hidden', player !== live);
	set($('volume'), 'hidden', player !== live && !volume.settable);
}

// User input.

const toggle = () => (going() ? stop() : start());
const mute = () => {
	volume.set({ muted: !volume.muted });
	showVolume();
};
const toLive = () => {
	start();
	$('play').focus();
};
label($('play'), words.play);
$('play').onclick = toggle;
$('tolive').onclick = toLive;
$('mute').onclick = mute;
$('volume').oninput = () => {
	volume.set({ volume: $('volume').value / 100, muted: false });
	showVolume();
};
$('boost').append(...BOOSTS.map((db) => make('option', { value: db, textContent: db ? words.gain(db) : words.noBoost })));
$('boost').onchange = () => volume.set({ boost: Number($('boost').value) });
$('mix').onchange = () => volume.set({ channel: Number($('mix').value) < 0 ? null : Number($('mix').value) });
for (const radio of ways) {
	radio.onchange = () => {
		choose(radio.value === 'live' ? live : background);
		showVolume();
	};
}
ways[0].disabled = !supported;
background.watchRemote((there) => { $('cast').hidden = !there || player !== background; });
label($('cast'), words.cast);
$('cast').onclick = () => background.chooseRemote();
$('facts').append(...Object.entries(words.facts).map(([fact, name]) => (
	make('div', {}, make('dt', { textContent: name }), make('dd', { id: fact }))
)));
label($('pitches'), words.pitches);
label($('timeline').firstElementChild, words.timeline);
listen({
	' ': toggle,
	m: mute,
	l: () => going() && toLive(),
	f: () => spectrogram.full(),
	ArrowLeft: () => step(STEP),
	ArrowRight: () => step(-STEP),
});

const nudge = () => {
	events.nudge();
	player.nudge();
};
addEventListener('online', nudge);
addEventListener('pageshow', nudge);
document.addEventListener('visibilitychange', () => {
	// Connections per server are scarce: hidden pages release theirs.
	if (document.hidden) events.rest();
	else {
		// The levels of the time meanwhile are the server's.
		if (events.state) past();
		nudge();
	}
});
setInterval(() => document.hidden || describe(), 250);
events.watch(input);
showVolume();
describe();
