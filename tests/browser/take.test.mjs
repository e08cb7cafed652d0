// Exports of the page: files of past sound, stream addresses, and a QR code for the phone.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { qr } from '../../src/page/qr.js';
import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { folder, scenario, until } from './support/scenario.mjs';

const RATE = 44_100;
/** A time zone far from UTC, with a half hour in its offset. */
const ZONE = 'Asia/Kolkata';
const AHEAD_MS = 5.5 * 3600 * 1000;

for (const { name, programs, launch } of [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
]) {
  scenario(`${name} saves what was heard, copies addresses and shows a code`, {
    needs: [programs, ...LOUDSPEAKER, 'sox', 'zbarimg'],
  }, async (t, use) => {
    const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:ramp"\n[input.other]\ndevice = "synth:tone"\n'));
    const { path: saves, remove } = folder();
    await use({ close: remove });
    const browser = await use(launch(await use(Loudspeaker.start()), { saves, zone: ZONE }));
    await daemon.remembers(12);
    const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${daemon.port}/`);
    await tab.ready();
    // All that is kept is selected; the last ten seconds, after the selection's start was moved.
    await until('the selection', () => tab.page.$eval('.from', (handle) => Number(handle.getAttribute('aria-valuenow')) <= -12));
    await tab.page.focus('.from');
    const start = () => tab.page.$eval('.from', (handle) => Number(handle.getAttribute('aria-valuenow')));
    await tab.page.keyboard.press('Home');
    for (let from = await start(); from < -10; from++) await tab.page.keyboard.press('ArrowRight');
    const [, chosen, seconds] = await until('an address of these frames', () => tab.page.$eval('#save', ({ href, textContent }) => {
      const frames = /stream=\d+&from=(\d+)&to=(\d+)/.exec(href);
      return frames && [href, frames[2] - frames[1], textContent];
    }));
    assert.ok(Math.abs(chosen / RATE - 10) < 1.5, `${chosen} frames`);
    assert.equal(seconds, `Save ${Math.round(chosen / RATE * 10) / 10} s`);

    await tab.page.click('#save');
    const file = await until('the file', () => readdirSync(saves).find((name) => name.endsWith('.wav')));
    const bytes = await until('all of it', () => {
      const bytes = readFileSync(join(saves, file));
      return bytes.length === 44 + chosen * 4 && bytes;
    });
    // The name holds the input and the local time of the first frame, ten seconds ago.
    const [, date, hour, minute, second] = /^live-(\d{4}-\d\d-\d\d)-(\d\d)\.(\d\d)\.(\d\d)\.wav$/.exec(file);
    const age = Date.now() + AHEAD_MS - Date.parse(`${date}T${hour}:${minute}:${second}Z`);
    assert.ok(age > 8000 && age < 30_000, `${file} is ${age} ms old`);
    const first = bytes.readUInt16LE(44);
    for (let i = 0; i < chosen; i++) assert.equal(bytes.readUInt16LE(44 + 4 * i), (first + i) % 65_536);
    const info = execFileSync('soxi', [join(saves, file)]).toString();
    assert.ok(info.includes(` = ${chosen} samples`), info);

    const kinds = ['wav', 'flac', 'mp3', 'opus'];
    assert.deepEqual(await tab.listed('#addresses a'), kinds.flatMap((kind) => [`http://${INSECURE_HOST}:${daemon.port}/live.${kind}`, 'Playlist']));
    const lists = await tab.page.$$eval('#addresses li > a', (links) => links.map(({ pathname, search }) => pathname + search));
    for (const [i, list] of lists.entries()) {
      const playlist = await fetch(`http://127.0.0.1:${daemon.port}${list}`);
      assert.match(await playlist.text(), new RegExp(`\\nlive\\.${kinds[i]}\\n$`));
    }
    await tab.page.click('#addresses button');
    await until('it to be copied', async () => (await tab.text('#addresses button')) === 'Copied');
    await tab.page.evaluate(() => {
      const field = document.body.appendChild(document.createElement('textarea'));
      field.id = 'pasted';
      field.focus();
    });
    await tab.page.keyboard.down('Control');
    await tab.page.keyboard.press('v');
    await tab.page.keyboard.up('Control');
    assert.equal(await tab.page.$eval('#pasted', ({ value }) => value), `http://${INSECURE_HOST}:${daemon.port}/live.wav`);

    const picture = join(saves, 'code.png');
    await (await tab.page.$('#code')).screenshot({ path: picture });
    assert.equal(decoded(picture), `http://${INSECURE_HOST}:${daemon.port}/?input=live`);
    assert.deepEqual(tab.complaints, []);
  });
}

scenario('a code of any length is read by a decoder', { needs: ['zbarimg'] }, async (t, use) => {
  const { path, remove } = folder();
  await use({ close: remove });
  const long = `http://living-room.example.org:4410/?input=${'turntable-'.repeat(10)}`;
  for (let length = 1; length <= 106; length++) {
    const text = long.slice(0, length);
    const rows = qr(text);
    const [scale, margin] = [3, 4];
    const size = (rows.length + 2 * margin) * scale;
    const dark = (x, y) => (rows[Math.floor(y / scale) - margin]?.[Math.floor(x / scale) - margin] ? 1 : 0);
    const lines = Array.from({ length: size }, (_, y) => Array.from({ length: size }, (_, x) => dark(x, y)).join(' '));
    const picture = join(path, 'code.pbm');
    writeFileSync(picture, `P1\n${size} ${size}\n${lines.join('\n')}\n`);
    assert.equal(decoded(picture), text);
  }
  assert.equal(qr(long.slice(0, 107)), null);
});

function decoded(picture) {
  return execFileSync('zbarimg', ['--quiet', '--raw', picture], { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trimEnd();
}
