// The page: its display and its controls.

import { at } from './address.js';
import { Events } from './events.js';
import { Live, prepare, supported } from './live.js';
import { Meters } from './meters.js';
import { qr } from './qr.js';
import { HIGHEST, LOWEST, Spectrogram } from './spectrogram.js';
import { Steady } from './steady.js';
import { texts } from './texts.js';

const JUMPS = [5, 15, 30];
const SAVES = [10, 30];
// Time without a connection until it is reported.
const PATIENCE_MS = 1500;
// Number of values in the median of the delay.
const FIGURES = 9;

const $ = (id) => document.getElementById(id);
const make = (tag, properties, ...children) => {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
};
// Writes a property only on a change, to avoid redraws.
const set = (element, property, value) => element[property] === value || (element[property] = value);
const write = (element, text) => set(element, 'textContent', text);
const label = (element, text) => element.getAttribute('aria-label') === text || element.setAttribute('aria-label', text);
function fill(element, what, children) {
	if (element.dataset.of === what) return;
	element.dataset.of = what;
	element.replaceChildren(...children());
}

for (const element of document.querySelectorAll('[data-text]')) write(element, texts.fixed[element.dataset.text]);
for (const link of document.querySelectorAll('footer a')) link.href = at(link.getAttribute('href'));

const events = new Events((kind) => ({ hello, state: news, levels, refused, lost: describe })[kind]());
const live = new Live(events, (...news) => heard(live, ...news));
const steady = new Steady((...news) => heard(steady, ...news));
const meters = new Meters($('meters'));
const spectrogram = new Spectrogram($('history'));
live.onsound = (piece, rate) => spectrogram.sound(piece, rate);
const ways = [...document.getElementsByName('way')];

let input = new URLSearchParams(location.search).get('input');
let player = supported && remembered() !== 'steady' ? live : steady;
// Player state (stopped, connecting, playing, waiting, interrupted) and its details.
let state = 'stopped';
let detail = {};
let delays = [];
let count = 0;
// Play before the input is known.
let early = false;
// Start of the wait for a connection; true if the input is missing.
let since = performance.now();
let missing = false;

// The choice of the last visit. A browser may forbid the storage.
function remembered(way) {
	try {
		if (way) localStorage.setItem('wavecast.way', way);
		return localStorage.getItem('wavecast.way');
	} catch {
		return null;
	}
}

// Player: events and commands.

const going = () => state !== 'stopped' && state !== 'interrupted';

function heard(who, next, more = {}) {
	if (who !== player) return;
	[state, detail, delays] = [next, more, []];
	tab();
	$('main').dataset.state = state;
	label($('play'), going() ? texts.stop : texts.play);
	describe();
}

// The input's name for people, and the tab's text.
const title = () => events.state?.title ?? input;
const tab = () => set(document, 'title', texts.title(going() && title(), events.state?.station));

function start(back = 0) {
	early = !input;
	if (early) return;
	player.start(input, back);
	const session = navigator.mediaSession;
	if (!session) return;
	// For lock screens and headphone keys.
	session.metadata = new MediaMetadata({ title: title(), artist: location.hostname, album: texts.title(null, events.state?.station) });
	session.setActionHandler('play', () => start());
	for (const key of ['pause', 'stop']) session.setActionHandler(key, () => player.stop());
}

// Jumps back from the heard position, or from now during live play.
function jump(by) {
	const from = detail.back ? (player.figures?.delay ?? 0) / 1000 : 0;
	start(Math.min(events.state?.history_seconds ?? 0, Math.round(by + from)));
}

function choose(other) {
	if (other === player) return;
	const was = going();
	player.stop(was);
	player = other;
	remembered(player === live ? 'live' : 'steady');
	if (was) start();
	describe();
}

function select(name) {
	const was = going();
	input = name;
	const url = new URL(location);
	url.searchParams.set('input', name);
	history.replaceState(null, '', url);
	meters.clear();
	spectrogram.clear();
	events.watch(name);
	if (was) start();
}

// Server events.

function hello() {
	missing = false;
	// After the display: without a loudspeaker some browsers take long.
	if (player === live) setTimeout(prepare, 300);
	write($('version'), texts.version(events.hello.version));
}

function levels() {
	// Without playback five draws a second are enough.
	const draw = going() || ++count % 2 === 0;
	meters.show(events.levels.levels, draw);
	spectrogram.level(events.levels.levels, draw);
}

function news() {
	const { inputs, titles, station, history_seconds: history, phase } = events.state;
	input = events.state.input;
	if (phase === 'waiting') meters.clear();
	// The stream that the player waits for exists now.
	if (state === 'waiting' && phase === 'capturing') player.nudge();
	write($('station'), texts.title(null, station));
	tab();
	fill($('input'), JSON.stringify([inputs, titles]), () => inputs.map((name, i) => make('option', { value: name, textContent: titles[i] })));
	$('inputs').hidden = inputs.length < 2;
	$('input').value = input;
	const kept = [...SAVES.filter((s) => s < history), history].filter((s) => s > 0);
	const links = kept.map((s) => at(`${input}.wav?last=${s}&utc=${-new Date().getTimezoneOffset()}`));
	fill($('saves'), links.join(), () => kept.map((s, i) => {
		const link = make('a', { className: 'button', href: links[i], download: '', textContent: texts.save(s) });
		label(link, texts.saveLabel(s));
		return link;
	}));
	$('saving').hidden = kept.length === 0;
	for (const button of $('jumps').children) button.hidden = button.value > history;
	$('look').hidden = history < JUMPS[0];
	addresses();
	if (early) start();
	describe();
}

// Handles a missing input: an old address or a new configuration.
async function refused() {
	if (!events.state && input) {
		input = null;
		events.watch(null);
		return;
	}
	const answer = await fetch(at(`${input}/levels`), { method: 'HEAD', cache: 'no-store' }).catch(() => null);
	missing = answer?.status === 404;
}

// Display.

// The current condition: its key and its text.
function words() {
	const told = events.state;
	const plain = (key) => [key, texts[key]];
	if (missing) return ['noInput', texts.noInput(input)];
	if (!events.connected && performance.now() - since > PATIENCE_MS && state !== 'playing') {
		return plain(going() ? 'cut' : told ? 'gone' : 'looking');
	}
	if (!told) return plain('looking');
	if (told.phase === 'waiting') return told.problem ? ['noSound', texts.noSound(told.problem)] : plain('opening');
	if (told.phase === 'lost') {
		const ago = told.seconds + (performance.now() - events.stateAt) / 1000;
		const [problem] = told.problem.split(';');
		return problem.endsWith('was unplugged') ? ['unplugged', texts.unplugged(ago)] : ['lost', texts.lost(problem, ago)];
	}
	const dead = told.problem && ['dead', texts.deadAir(told.problem.split(';')[0])];
	if (state === 'stopped') return dead || ['stopped', texts.stopped(title())];
	if (state === 'waiting') {
		if (detail.cause === 'refused') return ['refused', texts.refused(detail.text)];
		if (detail.cause === 'slow') return plain('slow');
		return plain(detail.cause === 'ended' ? 'restarting' : 'cut');
	}
	if (state !== 'playing') return plain(state);
	if (dead && !detail.back) return dead;
	if (detail.slow) return ['tooSlow', texts.tooSlow(title())];
	if (detail.codec === 'flac' && !detail.back) return ['lossless', texts.lossless(title())];
	return detail.back ? ['back', texts.back(Math.round((median() ?? 1000 * detail.back) / 1000))] : ['live', texts.live(title())];
}

// The median delay in ms; single values are off by some ms.
const median = () => [...delays].sort((a, b) => a - b)[delays.length >> 1] ?? null;

function describe() {
	const figures = state === 'playing' ? player.figures : null;
	if (typeof figures?.delay === 'number') delays = [...delays, figures.delay].slice(-FIGURES);
	const delay = median();
	const [key, text] = words();
	write($('status'), text);
	if ($('main').dataset.words !== key) {
		$('main').dataset.words = key;
		// Once per key: screen readers must not read every second.
		$('said').textContent = text;
	}
	let behind = '';
	if (delay !== null && detail.back) behind = texts.heardAt(new Date(Date.now() - delay).toLocaleTimeString());
	else if (delay !== null) behind = (player === live ? texts.delay : texts.about)(delay);
	write($('delay'), behind);
	set($('delay').dataset, 'ms', delay?.toFixed(1) ?? '');
	set($('delay').dataset, 'figures', JSON.stringify(figures));
	set($('tolive'), 'hidden', !going() || !detail.back);
	for (const radio of ways) set(radio, 'checked', (radio.value === 'live') === (player === live));
	set($('pitches'), 'hidden', !spectrogram.hears);
	const caption = spectrogram.hears ? texts.pitches : texts.loudness;
	write($('caption'), caption);
	label($('history'), caption);

	const told = events.state;
	const facts = {
		card: told?.card ?? told?.device,
		format: told?.format && texts.format(told.format),
		listeners: told?.listeners,
		overruns: told && texts.times(told.overruns),
		losses: told && texts.times(told.losses),
		dropouts: texts.gaps(player.dropouts, (performance.now() - player.lastDropout) / 1000),
	};
	for (const [fact, value] of Object.entries(facts)) write($(fact), `${value ?? '–'}`);
}

function addresses() {
	const { name, address } = events.hello;
	const { host, protocol } = location;
	// Other machines cannot use localhost; an HTTPS proxy has only the name in the URL.
	const here = /^(localhost|127\.|\[::1\])/.test(host);
	const others = protocol === 'https:' ? [] : [name, address];
	const hosts = [...new Set(here ? [...others, host] : [host, ...others])].filter(Boolean);
	const reach = (to, path) => at(path).replace(host, to);
	const lonely = here && !address;
	$('onlyhere').hidden = !lonely;
	const links = hosts.map((host) => reach(host, `${input}.wav`));
	const anchor = (textContent) => make('a', { href: at(textContent), textContent });
	fill($('addresses'), links.join(), () => [...links.map((link) => {
		const button = make('button', { type: 'button', textContent: texts.copy, onclick: () => copy(link, button) });
		label(button, texts.copyLabel(link));
		return make('li', {}, anchor(link), button);
	}), make('li', {}, anchor(`${input}.m3u`), anchor(`${input}.pls`))]);
	// By IP address: not all phones resolve local names.
	const target = reach(others[1] ?? hosts[0], events.state.inputs.length > 1 ? `.?input=${input}` : '.');
	const rows = lonely ? null : qr(target);
	$('code').toggleAttribute('hidden', !rows);
	if (!rows) return;
	$('code').setAttribute('viewBox', `-4 -4 ${rows.length + 8} ${rows.length + 8}`);
	label($('code'), texts.code(target));
	const dark = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : '')));
	$('code').firstChild.setAttribute('d', dark.join(''));
}

async function copy(text, button) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		// Insecure origins have only the old clipboard API.
		const field = make('textarea', { value: text, className: 'unseen' });
		button.after(field);
		field.select();
		document.execCommand('copy');
		field.remove();
		button.focus();
	}
	button.textContent = texts.copied;
	setTimeout(() => { button.textContent = texts.copy; }, 2000);
}

// User input.

label($('play'), texts.play);
$('play').onclick = () => (going() ? player.stop() : start());
$('tolive').onclick = () => {
	start();
	$('play').focus();
};
$('jumps').append(...JUMPS.map((s) => {
	const button = make('button', { type: 'button', value: s, textContent: texts.jump(s), onclick: () => jump(s) });
	label(button, texts.jumpLabel(s));
	return button;
}));
for (const radio of ways) radio.onchange = () => choose(radio.value === 'live' ? live : steady);
ways[0].disabled = !supported;
$('input').onchange = () => select($('input').value);
$('facts').append(...Object.entries(texts.facts).map(([fact, name]) => (
	make('div', {}, make('dt', { textContent: name }), make('dd', { id: fact }))
)));
$('pitches').append(...[100, 1000, 10_000].map((hertz) => {
	const mark = make('span', { textContent: hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz` });
	mark.style.bottom = `${100 * Math.log(hertz / LOWEST) / Math.log(HIGHEST / LOWEST)}%`;
	return mark;
}));

const nudge = () => {
	events.nudge();
	player.nudge();
};
addEventListener('online', nudge);
addEventListener('pageshow', nudge);
document.addEventListener('visibilitychange', () => {
	since = performance.now();
	// Connections per server are scarce: hidden pages release theirs.
	if (document.hidden) events.rest();
	else nudge();
});
setInterval(() => document.hidden || describe(), 250);
events.watch(input);
describe();
