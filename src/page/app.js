// The page: it connects the server's events, the two players, and the display.

import { at } from './address.js';
import { showApps } from './apps.js';
import { Background } from './background.js';
import { Bands } from './bands.js';
import { codecName } from './codec.js';
import { condition, isStale } from './condition.js';
import { $, fill, kept, label, make, set, write } from './dom.js';
import { Events } from './events.js';
import { showInputs, showLevels } from './inputs.js';
import { listen } from './keys.js';
import { Live, make as makeContext, supported } from './live.js';
import { Meters } from './meters.js';
import { Spectrogram } from './spectrogram.js';
import { Timeline } from './timeline.js';
import { TimelineView } from './timeline_view.js';
import { Volume } from './volume.js';
import { about, clock, exactly, language, number, words } from './words.js';

const FIGURES = 9;
const STEP = 5;

document.documentElement.lang = language;
for (const element of document.querySelectorAll('[data-text]')) write(element, words.fixed[element.dataset.text]);
for (const element of document.querySelectorAll('[data-label]')) label(element, words.fixed[element.dataset.label]);
for (const link of document.querySelectorAll('footer a')) link.href = at(link.getAttribute('href'));
document.body.classList.toggle('embed', /\/embed$/.test(location.pathname));
$('facts').append(...Object.entries(words.facts).map(([id, name]) => make('div', {}, make('dt', { textContent: name }), make('dd', { id }))));

const events = new Events((kind) => ({ hello, state: news, levels, inputs: () => showLevels(events.inputs), refused, lost: describe })[kind]());
const live = new Live(events, (...news) => heard(live, ...news));
const background = new Background((...news) => heard(background, ...news));
const volume = new Volume(background.audio);
live.output = (context) => volume.entry(context);
const [meters, spectrogram, bands, timeline] = [new Meters(), new Spectrogram(), new Bands(), new Timeline()];
const timelineView = new TimelineView(timeline, { seek, selected: showSave });
const ways = [...document.getElementsByName('way')];
const main = $('main').dataset;

let input = new URLSearchParams(location.search).get('input');
// A name that was asked for or played, if there is no such input.
let missing = null;
let player = supported && kept('way') !== 'background' ? live : background;
let state = 'stopped';
let detail = {};
let delays = [];
let count = 0;
let due = false;
// Seconds before now that were asked for.
let aim = 0;
// The server has no place for this page; the network was too slow for Live.
let [full, slow] = [false, false];
let remote = false;

const going = () => due || (state !== 'stopped' && state !== 'interrupted');

function heard(who, next, more = {}) {
	if (who !== player) return;
	[state, detail, delays] = [next, more, []];
	if (more.slow && background.codecs.length > 0) choose(background, true);
	describe();
}

function start(back = 0) {
	aim = back;
	// Until then a request would only be refused. Otherwise in the click: iOS wants that.
	due = Boolean(missing || !events.state || events.state.phase === 'waiting');
	if (due) {
		if (player === live) makeContext().resume();
		heard(player, 'connecting');
		return;
	}
	player.start(input, back);
	const session = navigator.mediaSession;
	if (!session) return;
	// For lock screens and headphone keys.
	const artwork = [{ src: at('icon-192.png', import.meta.url), sizes: '192x192', type: 'image/png' }];
	session.metadata = new MediaMetadata({ title: title(), artist: events.state?.station ?? location.hostname, artwork });
	session.setActionHandler('play', () => start());
	for (const key of ['pause', 'stop']) session.setActionHandler(key, stop);
}

function stop() {
	if (due) [due, state] = [false, 'stopped'];
	player.stop();
	describe();
}

function wait() {
	if (!going()) return;
	player.stop(true);
	[due, state] = [true, 'connecting'];
}

// Plays from `seconds` ago.
function seek(seconds) {
	// A young stream has less than could be kept.
	const back = Math.min(timeline.history, timeline.ago(0), Math.max(0, Math.round(seconds * 10) / 10));
	start(back < 0.5 ? 0 : back);
}

function step(seconds) {
	const from = state !== 'playing' ? going() && aim : detail.back && (player.figures?.delay ?? 0) / 1000;
	if (timeline.history && (seconds > 0 || from)) seek(seconds + (from || 0));
}

function choose(other, itself = false) {
	if (other === player) return;
	const was = going();
	player.stop(was);
	[player, slow] = [other, itself];
	if (!itself) kept('way', player === live ? 'live' : 'background');
	[state, detail] = ['stopped', {}];
	if (was) start();
	showControls();
	describe();
}

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
	meters.clear();
	timeline.clear();
	spectrogram.clear();
}

function hello() {
	full = false;
	// In advance, since it takes 0.1 s; after the display, since without a loudspeaker some browsers take long.
	if (player === live) setTimeout(() => going() || makeContext().suspend(), 300);
	if (events.state) past();
	write($('version'), `wavecast ${events.hello.version}`);
}

function levels() {
	if (missing) return;
	// Five draws a second are enough.
	const draw = going() || ++count % 2 === 0;
	const { frame, levels } = events.levels;
	timeline.add(events.state.stream, frame, loudest(levels));
	const heard = heardLevels();
	meters.show(heard, draw);
	if (!draw || document.hidden) return;
	showTime();
	$('play').style.setProperty('--level', Math.max(0, 1 + loudest(heard) / 50).toFixed(2));
}

const loudest = (levels) => Math.max(...levels.map(([peak]) => peak ?? -200));

// The levels of what is heard: of the past there is one peak for all channels.
function heardLevels() {
	const { levels } = events.levels;
	const delay = median();
	if (state !== 'playing' || !detail.back || delay === null) return levels;
	const peak = timeline.peakAt(timeline.frameAgo(delay / 1000));
	return levels.map(([, , clipped]) => [peak, peak, clipped]);
}

function news() {
	const told = events.state;
	if (missing && told.inputs.includes(missing)) return select(missing);
	if (!missing) input = told.input;
	background.codecs = told.codecs;
	if (told.phase === 'waiting') {
		meters.clear();
		// Requests would be refused again and again.
		wait();
	} else if (due && !missing) start();
	else if (state === 'waiting' && told.phase === 'capturing') player.nudge();
	volume.channels(told.format?.channels ?? 2);
	timeline.history = told.history_seconds;
	if (!missing && told.stream !== timeline.stream && told.stream) past();
	showInput();
	describe();
}

async function past() {
	const { input, stream } = events.state;
	const answer = await fetch(at(`${input}/history`), { cache: 'no-store' }).catch(() => null);
	const history = answer?.ok && await answer.json().catch(() => null);
	if (history?.stream === stream && events.state?.stream === stream) timeline.load(history);
}

// Refused are events of an input that is not there, and for too many pages, which does not apply to a HEAD.
async function refused() {
	const name = events.input;
	const status = await fetch(at(name ? `${name}/levels` : 'levels'), { method: 'HEAD' }).then((answer) => answer.status, () => 0);
	full = status === 200;
	if (status === 404 && name && name === events.input) {
		wait();
		[missing, input] = [missing ?? name, null];
		forget();
		events.watch(null);
	}
	describe();
}

// The input's title, and the page's: the station's, with one input that has no title.
const title = () => events.state?.title ?? input ?? '';
const several = () => events.state?.inputs.length > 1;

function showInput() {
	const { inputs, titles, station = 'wavecast', title: own, codecs } = events.state;
	const named = !missing && (several() || own !== input);
	write($('title'), named ? own : station);
	const host = /^(localhost|127\.|\[)/.test(location.host) ? '' : location.hostname;
	write($('station'), [named && station, host].filter(Boolean).join(' · '));
	showInputs(inputs, titles, missing ? null : input, select);
	write($('choose'), missing ? words.choose : '');
	for (const card of document.querySelectorAll('.apps, .facts')) card.hidden = Boolean(missing);
	if (!missing) showApps({ input, title: title(), codecs, hello: events.hello, several: several() });
	showSave();
}

function showSave() {
	const { selected } = timeline;
	const most = events.state?.history_seconds;
	const none = missing || !most;
	$('save').hidden = none || !selected || !events.connected;
	$('past').hidden = Boolean(none);
	if (most) write($('pasttitle'), words.history(exactly(most)));
	if (none || !selected) return;
	const seconds = Math.round(selected.seconds * 10) / 10;
	const part = selected.usual ? `last=${seconds}` : `stream=${timeline.stream}&from=${Math.round(selected.from)}&to=${Math.round(selected.to)}`;
	set($('save'), 'href', at(`${input}.wav?${part}&utc=${-new Date(Date.now() - 1000 * timeline.ago(selected.from)).getTimezoneOffset()}`));
	write($('save'), words.save(exactly(seconds)));
}

const median = () => [...delays].sort((a, b) => a - b)[delays.length >> 1] ?? null;

function showTime() {
	const delay = state === 'playing' ? median() : null;
	timelineView.show(delay === null ? null : delay / 1000);
	if ($('spectrum').hidden) return;
	spectrogram.draw(delay === null ? null : player === live ? volume.spectrum : bands.at(input, timeline, timeline.frameAgo(delay / 1000)));
}

function describe() {
	const figures = state === 'playing' ? player.figures : null;
	// The median, since single values are off by some ms.
	if (figures) delays = figures.delay === null ? [] : [...delays, figures.delay].slice(-FIGURES);
	const delay = median();
	const told = events.state;
	const alone = events.connected ? 0 : performance.now() - events.alone;
	const now = { told, age: performance.now() - events.stateAt, alone, state, detail, delay, missing, full, slow, title: several() ? title() : '' };
	const [key, text, problem] = condition(now);
	const stale = isStale(now);
	set(main, 'state', state);
	set(main, 'stale', `${stale}`);
	set(main, 'going', `${going()}`);
	set(main, 'alone', `${stale && alone > 0}`);
	set($('play'), 'disabled', Boolean(missing && !going()));
	label($('play'), going() ? words.stop : words.play);
	write($('status'), text);
	set(document, 'title', `${state === 'playing' ? '▶ ' : ''}${$('title').textContent}`);
	if (main.words !== key) {
		main.words = key;
		// Once per key: screen readers must not read every second.
		$('said').textContent = text;
	}
	showDelay(stale && !detail.back ? null : delay);
	// For tests and the curious.
	set($('delay').dataset, 'ms', delay?.toFixed(1) ?? '');
	set($('delay').dataset, 'figures', JSON.stringify(figures));
	write($('detail'), alone && stale && events.contact ? words.lastContact(clock(events.contact)) : problem);
	set($('tolive'), 'hidden', !(state === 'playing' && detail.back));
	for (const radio of ways) set(radio, 'checked', (radio.value === 'live') === (player === live));
	if (state === 'playing') set($('spectrum'), 'hidden', false);
	facts(figures, stale);
	showSave();
	if (stale && told) showTime();
}

function showDelay(delay) {
	const s = delay === null ? '' : detail.back ? clock(Date.now() - delay) : `${player === live ? '' : '≈ '}${number(delay / 1000, delay < 995 ? 2 : 1)} s`;
	fill($('delay'), s, () => (s ? [make('b', { textContent: s }), ` ${detail.back ? words.captured : words.delay}`] : []));
}

function facts(figures, stale) {
	const told = events.state;
	const { dropouts, lastDropout } = player;
	const format = ({ rate, channels, sample }) => `${number(rate / 1000)}\xA0kHz, ${words.places(channels)}, ${sample.slice(1)}\xA0${words.bits}`;
	const values = {
		card: told && (told.card ?? (told.phase === 'waiting' ? words.noCard : told.device)),
		format: told?.format && format(told.format),
		playing: figures?.codec && codecName(figures.codec),
		listeners: told?.listeners,
		overruns: told?.overruns,
		losses: told?.losses,
		dropouts: dropouts && words.dropouts(dropouts, about((performance.now() - lastDropout) / 1000)),
	};
	for (const [fact, value] of Object.entries(values)) {
		write($(fact), `${value ?? '–'}`);
		set($(fact).parentElement, 'hidden', fact === 'playing' && !value);
		set($(fact).parentElement, 'className', stale && fact !== 'dropouts' ? 'old' : '');
	}
	const pushes = told?.pushes ?? [];
	fill($('pushes'), JSON.stringify(pushes), () => pushes.map(({ name, state, detail }) => (
		make('li', {}, make('b', { textContent: words.sentTo(name) }), ` ${words.pushState(state)}${detail && `: ${detail}`}`)
	)));
}

function showControls() {
	volume.show(player === live);
	$('cast').hidden = !remote || player === live;
}

const toggle = () => (going() ? stop() : start());
const toLive = () => {
	start();
	$('play').focus();
};
$('play').onclick = toggle;
$('tolive').onclick = toLive;
for (const radio of ways) radio.onchange = () => choose(radio.value === 'live' ? live : background);
ways[0].disabled = !supported;
background.watchRemote((there) => {
	remote = there;
	showControls();
});
$('cast').onclick = () => background.chooseRemote();
listen({
	' ': toggle,
	m: () => volume.mute(),
	l: () => going() && toLive(),
	f: () => spectrogram.full(),
	ArrowLeft: () => step(STEP),
	ArrowRight: () => step(-STEP),
});

const nudge = () => {
	// Connections per server are scarce: hidden pages release theirs.
	if (document.hidden) events.rest();
	else events.nudge();
	player.nudge();
};
addEventListener('online', nudge);
addEventListener('pageshow', ({ persisted }) => persisted && nudge());
document.addEventListener('visibilitychange', nudge);
setInterval(() => document.hidden || describe(), 250);
events.input = input;
nudge();
showControls();
describe();
