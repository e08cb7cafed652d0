// Fidelity of the sound from the card to the loudspeaker: a stereo recording of two voices, with a connection reset in
// the middle of a frame.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

import { alikeAt, whereAlike } from './support/alike.mjs';
import { CHROMIUM, FIREFOX, Tab, chromium, firefox } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker, RATE, channels } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

const LEFT = 'A small daemon listens to the sound card, and everybody in the house may hear what it hears: ' +
  'the turntable, the baby, the rain on the roof of the shed.';
const RIGHT = 'Seven players went out one evening. Six of them buffered for a second or two; ' +
  'the seventh was a browser, and it waited for a quarter of a megabyte before it sang.';

/** The sizes in bytes of the WAV header and of a frame. */
const [HEADER, FRAME] = [44, 4];
/** The correlation from which two sounds count as equal. */
const GOOD = 0.9;

const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
];

for (const { name, programs, launch } of BROWSERS) {
  scenario(`${name} says what the card hears, also after its connection was reset`, {
    needs: [programs, ...LOUDSPEAKER, 'espeak-ng', 'sox'],
  }, async (t, use) => {
    let source;
    const card = await use(Card.make((file) => {
      speak(file);
      source = channels(readFileSync(file));
    }));
    const daemon = await use(Daemon.start('[input.live]\ndevice = "fakeraw"\n', card));
    const wire = await use(Wire.to(daemon.port));
    const speaker = await use(Loudspeaker.start({ steady: true }));
    const browser = await use(launch(speaker));
    await daemon.remembers(2);
    const tab = await Tab.open(browser, `http://127.0.0.1:${wire.port}/`);
    await tab.play('live');
    await tab.advances(0.5);
    const before = await speaker.hear(5);

    wire.reset();
    const { headers, answer } = await until('it to come back', () => {
      const again = wire.asked('/live.wav')[1];
      return again?.answer && again;
    });
    const [, first] = /^bytes=(\d+)-$/.exec(headers.range);
    assert.notEqual((first - HEADER) % FRAME, 0, `${headers.range} is the beginning of a frame`);
    assert.equal(answer.status, 206);
    assert.ok(answer.headers['content-range'].startsWith(`bytes ${first}-`), answer.headers['content-range']);
    // Skips the sound buffered before the reset, and a second for the loudspeaker's buffer.
    await tab.advances(2.5);
    const after = await speaker.hear(4);
    await tab.playedOn();
    t.diagnostic(`${name} at first: ${compare(before, source)}`);
    t.diagnostic(`${name} after a reset, with ${headers.range}: ${compare(after, source)}`);
  });
}

/** Writes two voices, one in each channel, as the samples of a card. */
function speak(file) {
  const [left, right] = [`${file}.left.wav`, `${file}.right.wav`];
  execFileSync('espeak-ng', ['-v', 'en-gb', '-w', left, LEFT]);
  execFileSync('espeak-ng', ['-v', 'en-us+f3', '-w', right, RIGHT]);
  const format = ['-t', 'raw', '-r', String(RATE), '-b', '16', '-e', 'signed'];
  execFileSync('sox', ['-M', left, right, ...format, file, 'gain', '-n', '-3']);
}

/**
 * Checks that a recording matches the source for three seconds or more, second by second: both channels at one place,
 * and each second at the end of the previous one. Returns a summary of the fit of each second. Not every second has to
 * match, because on a busy machine the sound between the browser and the loudspeaker stutters now and then.
 */
function compare(recording, source) {
  const scores = [];
  let [place, run, longest] = [0, 0, 0];
  for (let from = 0; from + RATE <= recording[0].length; from += RATE) {
    const [left, right] = recording.map((channel) => channel.subarray(from, from + RATE));
    const fits = () => Math.min(alikeAt(place, left, source[0]), alikeAt(place, right, source[1]));
    if (run === 0 || fits() < GOOD) {
      run = 0;
      place = whereAlike(left, source[0]);
    }
    scores.push(fits().toFixed(4));
    run = fits() > GOOD ? run + 1 : 0;
    longest = Math.max(longest, run);
    place += RATE;
  }
  const summary = `${longest} s without a seam, correlation ${scores.join(', ')}`;
  assert.ok(longest >= 3, summary);
  return summary;
}
