// The page: what it shows, and what its buttons do.

import { Events } from './events.js';
import { Live, supported } from './live.js';
import { Meters } from './meters.js';
import { path, qr } from './qr.js';
import { HIGHEST, LOWEST, Spectrogram } from './spectrogram.js';
import { Steady } from './steady.js';
import { texts } from './texts.js';

const JUMPS = [5, 15, 30];
const SAVES = [10, 30];

const $ = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
/** Changes a text only where it is another one: what has not changed needs not be drawn. */
const write = (element, text) => element.textContent === text || (element.textContent = text);

/** What is remembered between visits; a browser may forbid it. */
const memory = {
  get: (key) => {
    try {
      return localStorage.getItem(`wavecast.${key}`);
    } catch {
      return null;
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(`wavecast.${key}`, value);
    } catch {
      // Then it is not remembered.
    }
  },
};

for (const element of document.querySelectorAll('[data-text]')) element.textContent = texts.fixed[element.dataset.text];

const events = new Events((kind) => ({ hello, state: news, levels, refused, connection: describe })[kind]());
const live = new Live(events, (state, detail) => heard(live, state, detail));
const steady = new Steady((state, detail) => heard(steady, state, detail));
const meters = new Meters($('meters'));
const spectrogram = new Spectrogram($('history'));
live.onsound = (piece, rate) => spectrogram.sound(piece, rate);

let input = new URLSearchParams(location.search).get('input');
let player = supported && memory.get('way') !== 'steady' ? live : steady;
/** What the player does: stopped, connecting, playing, waiting, interrupted; and more about it. */
let state = 'stopped';
let detail = {};
let delay = null;
let since = performance.now();
let facts = '';
/** Whether the server says that there is no such input. */
let missing = false;

// What the player says.

function heard(who, next, more = {}) {
  if (who !== player) return;
  if (next !== state) delay = null;
  [state, detail] = [next, more];
  document.title = state === 'stopped' ? texts.title : texts.playing(input);
  $('main').dataset.state = state;
  $('play').setAttribute('aria-label', going() ? texts.stop : texts.play);
  if (navigator.mediaSession) navigator.mediaSession.playbackState = going() ? 'playing' : 'none';
  describe();
}

const going = () => state !== 'stopped' && state !== 'interrupted';

function start(back = 0) {
  if (!input) return;
  player.start(input, back);
  announce();
}

function choose(other) {
  if (other === player) return;
  const was = state !== 'stopped';
  player.stop(was);
  player = other;
  memory.set('way', player === live ? 'live' : 'steady');
  if (was) start();
  describe();
}

/** For lock screens and keys on headphones. */
function announce() {
  const session = navigator.mediaSession;
  if (!session) return;
  if (globalThis.MediaMetadata) session.metadata = new MediaMetadata({ title: input, artist: location.hostname, album: 'wavecast' });
  const actions = {
    play: () => start(),
    pause: () => player.stop(),
    stop: () => player.stop(),
    seekbackward: (wish) => jump(wish.seekOffset ?? 15),
  };
  for (const [action, act] of Object.entries(actions)) {
    try {
      session.setActionHandler(action, act);
    } catch {
      // This browser knows no such key.
    }
  }
}

function jump(by) {
  const kept = events.state?.history_seconds ?? 0;
  const now = going() && player.figures?.delay !== undefined ? (player.figures?.delay ?? 0) / 1000 : 0;
  // A jump from now on means what was just heard, however little that is behind.
  start(Math.min(kept, Math.round(10 * (by + (detail.back ? now : 0))) / 10));
}

// What the server says.

function hello() {
  missing = false;
  write($('version'), texts.version(events.hello.version));
  addresses();
  describe();
}

function levels() {
  meters.show(events.levels.levels);
  spectrogram.level(events.levels.levels);
}

function news() {
  const { inputs, history_seconds: history, phase } = events.state;
  if (input !== events.state.input) {
    input = events.state.input;
    addresses();
  }
  if (phase === 'waiting') meters.clear();
  // The connection of a player that waits may be had by now.
  if (state === 'waiting' && phase === 'capturing') player.nudge();
  const names = inputs.join();
  if ($('input').dataset.names !== names) {
    $('input').dataset.names = names;
    $('input').replaceChildren(...inputs.map((name) => make('option', { value: name, textContent: name })));
    $('inputs').hidden = inputs.length < 2;
    $('input').value = input;
  }
  const kept = [...SAVES.filter((s) => s < history), history].filter((s) => s > 0);
  const utc = -new Date().getTimezoneOffset();
  const saves = `${input} ${kept} ${utc}`;
  if ($('saves').dataset.for !== saves) {
    $('saves').dataset.for = saves;
    $('saves').replaceChildren(...kept.map((s) => {
      const link = make('a', { className: 'button', href: `${input}.wav?last=${s}&utc=${utc}`, textContent: texts.save(s) });
      link.setAttribute('download', '');
      link.setAttribute('aria-label', texts.saveLabel(s));
      return link;
    }));
  }
  $('saving').hidden = kept.length === 0;
  for (const button of $('jumps').children) button.hidden = Number(button.value) > history;
  $('look').hidden = history < JUMPS[0];
  describe();
}

// What it shows.

/** What is happening, as a key for each state and the words for it. */
function words() {
  const { state: told, connected } = events;
  const ago = (performance.now() - events.stateAt) / 1000 + (told?.seconds ?? 0);
  const offline = !connected && performance.now() - since > 1500;
  if (missing) return ['noInput', texts.noInput(input)];
  if (offline && state !== 'playing') {
    if (going()) return ['goneWhilePlaying', texts.goneWhilePlaying()];
    return told ? ['gone', texts.gone()] : ['looking', texts.looking()];
  }
  if (told?.phase === 'waiting') return told.problem ? ['noSound', texts.noSound(told.problem)] : ['opening', texts.opening()];
  if (told?.phase === 'lost') {
    const problem = told.problem.split(';')[0];
    return problem === 'the sound card was unplugged'
      ? ['unplugged', texts.unplugged(ago)] : [`lost ${problem}`, texts.lost(problem, ago)];
  }
  switch (state) {
    case 'stopped': return told ? ['stopped', texts.stopped(input)] : ['looking', texts.looking()];
    case 'connecting': return player === steady && steady.dropouts > 0 ? ['buffering', texts.buffering()] : ['connecting', texts.connecting()];
    case 'interrupted': return ['interrupted', texts.interrupted()];
    case 'playing': return detail.back ? ['back', texts.back()] : ['live', texts.live(input)];
    default:
      if (detail.cause === 'refused') return ['refused', texts.refused(detail.text)];
      return detail.cause === 'ended' ? ['restarting', texts.restarting()] : ['goneWhilePlaying', texts.goneWhilePlaying()];
  }
}

function describe() {
  const [key, text] = words();
  write($('status'), text);
  if ($('said').dataset.key !== key) {
    $('said').dataset.key = key;
    $('main').dataset.words = key.split(' ')[0];
    // Once for each state: nobody wants to be told of every second.
    $('said').textContent = text;
  }
  const figures = state === 'playing' ? player.figures : null;
  const ms = figures?.delay ?? null;
  // It is only known to some ms each time, and is the same for minutes.
  delay = ms === null ? null : delay === null || Math.abs(ms - delay) > 100 ? ms : delay + (ms - delay) * 0.15;
  let behind = '';
  if (delay !== null && figures.back) behind = texts.ago(delay, new Date(Date.now() - delay).toLocaleTimeString());
  else if (delay !== null) behind = player === live ? texts.delay(delay) : texts.about(delay);
  write($('delay'), behind || '\u00a0');
  $('delay').dataset.ms = delay === null ? '' : delay.toFixed(1);
  $('delay').title = figures ? JSON.stringify(figures) : '';
  $('tolive').hidden = !(going() && detail.back);
  for (const radio of document.getElementsByName('way')) {
    radio.checked = (radio.value === 'live') === (player === live);
    if (radio.value === 'live') radio.disabled = !supported;
  }
  const hears = spectrogram.hears;
  $('pitches').hidden = !hears;
  const caption = hears ? texts.pitches : texts.loudness;
  if ($('history').getAttribute('aria-label') !== caption) {
    $('history').setAttribute('aria-label', caption);
    $('caption').textContent = caption;
  }
  table();
}

function table() {
  const { state: told } = events;
  const last = (performance.now() - player.lastDropout) / 1000;
  const values = {
    card: told?.card ?? told?.device,
    format: told?.format && texts.format(told.format),
    listeners: told && String(told.listeners),
    overruns: told && texts.times(told.overruns),
    losses: told && texts.times(told.losses),
    dropouts: texts.gaps(player.dropouts, last),
  };
  const now = JSON.stringify(values);
  if (now === facts) return;
  facts = now;
  $('facts').replaceChildren(...Object.entries(values).map(([key, value]) => {
    const term = make('div', {}, make('dt', { textContent: texts.facts[key] }), make('dd', { textContent: value ?? texts.nothing }));
    term.dataset.fact = key;
    return term;
  }));
}

function addresses() {
  if (!input) return;
  const { name, address } = events.hello;
  const secure = location.protocol === 'https:';
  const base = (host) => (secure ? location.origin : `${location.protocol}//${host}`) + location.pathname.replace(/[^/]*$/, '');
  const here = /^(localhost|127\.|\[::1\])/.test(location.host);
  // A proxy with a certificate has only the name that it was asked by.
  const hosts = [...new Set(secure ? [location.host] : [here ? null : location.host, name, address, here ? location.host : null])]
    .filter(Boolean);
  $('addresses').replaceChildren(...hosts.map((host) => {
    const text = `${base(host)}${input}.wav`;
    const button = make('button', { type: 'button', textContent: texts.copy });
    button.setAttribute('aria-label', texts.copyLabel(text));
    button.addEventListener('click', () => copy(text, button));
    return make('li', {}, make('a', { href: text, textContent: text }), button);
  }));
  $('m3u').href = `${input}.m3u`;
  $('pls').href = `${input}.pls`;
  const lonely = here && !address;
  $('onlyhere').hidden = !lonely;
  write($('onlyhere'), texts.onlyHere);
  // By number rather than by name: not every phone finds the names of a house.
  const host = secure ? location.host : address ?? hosts[0];
  const target = base(host) + (events.state?.inputs.length > 1 ? `?input=${input}` : '');
  const rows = lonely ? null : qr(target);
  $('code').toggleAttribute('hidden', !rows);
  if (rows && $('code').dataset.for !== target) {
    $('code').dataset.for = target;
    $('code').setAttribute('viewBox', `-4 -4 ${rows.length + 8} ${rows.length + 8}`);
    $('code').setAttribute('aria-label', texts.code(target));
    const drawn = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    drawn.setAttribute('d', path(rows));
    $('code').replaceChildren(drawn);
  }
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Insecure origins have no clipboard but the one of old.
    const field = make('textarea', { value: text, className: 'unseen' });
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
    button.focus();
  }
  button.textContent = texts.copied;
  setTimeout(() => { button.textContent = texts.copy; }, 2000);
}

// What is done to it.

$('play').addEventListener('click', () => (going() ? player.stop() : start()));
$('play').setAttribute('aria-label', texts.play);
$('tolive').addEventListener('click', () => {
  start();
  $('play').focus();
});
$('jumps').append(...JUMPS.map((s) => {
  const button = make('button', { type: 'button', value: s, textContent: texts.jump(s) });
  button.setAttribute('aria-label', texts.jumpLabel(s));
  button.addEventListener('click', () => jump(s));
  return button;
}));
for (const radio of document.getElementsByName('way')) {
  radio.addEventListener('change', () => choose(radio.value === 'live' ? live : steady));
}
$('volume').addEventListener('input', () => {
  // As the ear has it: half way down sounds half as loud.
  const volume = ($('volume').value / 100) ** 2;
  [live.volume, steady.volume] = [volume, volume];
  memory.set('volume', $('volume').value);
});
$('input').addEventListener('change', () => {
  const was = going();
  select($('input').value);
  if (was) start();
});
$('volume').value = memory.get('volume') ?? 100;
$('volume').dispatchEvent(new Event('input'));
for (const hertz of [100, 1000, 10_000]) {
  const mark = make('span', { textContent: hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz` });
  mark.style.bottom = `${100 * Math.log(hertz / LOWEST) / Math.log(HIGHEST / LOWEST)}%`;
  $('pitches').append(mark);
}

function select(name) {
  input = name;
  const url = new URL(location);
  url.searchParams.set('input', name);
  history.replaceState(null, '', url);
  meters.clear();
  spectrogram.clear();
  events.watch(name);
}

/** The server knows no such input: the address is an old one, or the configuration is another one now. */
async function refused() {
  if (!events.state && input) {
    input = null;
    events.watch(null);
    return;
  }
  const answer = await fetch(`${input}/levels`, { method: 'HEAD', cache: 'no-store' }).catch(() => null);
  missing = answer?.status === 404;
  describe();
}

const nudge = () => {
  events.nudge();
  player.nudge();
};
addEventListener('online', nudge);
addEventListener('pageshow', nudge);
document.addEventListener('visibilitychange', () => {
  since = performance.now();
  // Nobody sees the meters of a page in the background; its connection is for the ones that are seen.
  if (document.hidden) events.rest();
  else nudge();
});
setInterval(() => document.hidden || describe(), 250);
describe();
events.watch(input);
