// The sentence about the condition of page, server and card, and the choice of the stream. Needs no browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bestCodec } from '../../src/page/codec.js';
import { condition, isStale } from '../../src/page/condition.js';

const GOOD = { told: { phase: 'capturing', seconds: 5 }, age: 0, alone: 0, state: 'stopped', detail: {}, delay: null, missing: null, full: false, slow: false, title: '' };
const said = (change) => condition({ ...GOOD, ...change })[1];

test('each condition has its sentence', () => {
  for (const [change, sentence] of [
    [{}, 'Press play to listen'],
    [{ title: 'Roof' }, 'Press play to listen to “Roof”'],
    [{ state: 'connecting' }, 'Starting…'],
    [{ state: 'playing', delay: 90 }, 'Listening live'],
    [{ state: 'playing', delay: 90, title: 'Roof' }, 'Listening live: Roof'],
    [{ state: 'playing', detail: { back: 30 }, delay: 29_800 }, 'Listening to 30 s ago'],
    [{ state: 'playing', slow: true }, 'The network is slow. Playing in Background.'],
    [{ state: 'playing', detail: { slow: true } }, 'The network is too slow for Live.'],
    [{ state: 'interrupted' }, 'Paused by your device. Press play to go on.'],
    [{ state: 'waiting', detail: { cause: 'lost' } }, 'Connection lost. Reconnecting…'],
    [{ state: 'waiting', detail: { cause: 'ended' } }, 'Restarting…'],
    [{ state: 'waiting', detail: { cause: 'refused', text: 'all 3 places are taken' } }, 'All 3 places are taken.'],
    [{ told: null }, 'Connecting…'],
    [{ told: null, alone: 60_000 }, 'Connecting…'],
    [{ alone: 1000 }, 'Press play to listen'],
    [{ alone: 5000 }, 'Device not reachable. Reconnecting…'],
    [{ alone: 5000, state: 'waiting' }, 'Connection lost. Reconnecting…'],
    [{ alone: 5000, full: true }, 'Too many pages are open on this device. Trying again…'],
    // What still sounds is true.
    [{ alone: 5000, state: 'playing' }, 'Listening live'],
    [{ missing: 'deck', alone: 5000 }, 'There is no input “deck”.'],
    [{ told: { phase: 'waiting' } }, 'Opening the sound card…'],
    [{ told: { phase: 'waiting', trouble: 'absent', problem: 'no capture card is plugged in (device = …)' } }, 'No sound card yet'],
    [{ told: { phase: 'waiting', trouble: 'busy', problem: '"hw:1" is in use by arecord (pid 1): stop it' } }, 'The sound card is in use by another program.'],
    [{ told: { phase: 'waiting', problem: 'broken' } }, 'The sound card cannot be opened.'],
    [{ told: { phase: 'lost', seconds: 3, problem: 'the sound card was unplugged; busy' }, age: 2000 }, 'Sound card unplugged 5 s ago. Waiting for it…'],
    [{ told: { phase: 'lost', seconds: 200, problem: 'the driver hangs' } }, 'Sound card lost 3 min ago. Waiting for it…'],
    [{ told: { phase: 'capturing', problem: 'zeros only' } }, 'The device delivers no sound.'],
    [{ told: { phase: 'capturing', problem: 'zeros only' }, state: 'playing', detail: { back: 5 } }, 'Listening to 5 s ago'],
  ]) assert.equal(said(change), sentence, JSON.stringify(change));
});

test('what was measured is old without a connection, a card or an input', () => {
  const stale = (change) => isStale({ ...GOOD, ...change });
  assert.equal(stale({}), false);
  assert.equal(stale({ told: null }), false);
  assert.equal(stale({ alone: 1000 }), false);
  for (const change of [{ alone: 5000 }, { missing: 'deck' }, { told: { phase: 'lost' } }, { told: { phase: 'waiting' } }]) {
    assert.equal(stale(change), true, JSON.stringify(change));
  }
});

test('the browser gets the stream with the least data that it surely plays', () => {
  const all = ['flac', 'mp3', 'opus'];
  const plays = (opus, mp3) => (type) => (type === 'audio/mpeg' ? mp3 : opus);
  const iphone = { userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X)', maxTouchPoints: 5 };
  const ipad = { userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', maxTouchPoints: 5 };
  const mac = { ...ipad, maxTouchPoints: 0 };
  for (const [offered, canPlay, browser, codec] of [
    [all, plays('probably', 'maybe'), mac, 'opus'],
    [all, plays('probably', 'maybe'), iphone, 'mp3'],
    [all, plays('probably', 'maybe'), ipad, 'mp3'],
    [all, plays('maybe', 'probably'), mac, 'mp3'],
    [all, plays('', ''), mac, 'wav'],
    [['flac'], plays('probably', 'probably'), mac, 'wav'],
    [[], plays('probably', 'probably'), mac, 'wav'],
  ]) assert.equal(bestCodec(offered, canPlay, browser), codec, `${offered} ${browser.userAgent}`);
});
