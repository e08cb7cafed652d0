// FLAC, MP3 and Opus in the audio element of each browser and in other players: the sound is the room's, how far it is
// behind, and what each does after a cut. The delays are reported and not asserted: a player that a busy machine keeps from
// playing stays as late. With WAVECAST_LONG=1, on a quiet machine, the delay after ten seconds of digital silence is asserted.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { CHROMIUM, FIREFOX, Tab, chromium, firefox } from './support/browsers.mjs';
import { Card, Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { Room, noise, write } from './support/room.mjs';
import { end, folder, scenario, until } from './support/scenario.mjs';
import { WEBKIT, webkit } from './support/webkit.mjs';
import { Wire } from './support/wire.mjs';

const CODECS = ['flac', 'mp3', 'opus'];
const INPUT = '[input.live]\ndevice = "fakeraw"\n';
/** The correlation from which on a piece of a recording is the room's sound: codecs with losses change it a little. */
const GOOD = 0.8;
/** Delays mean something on a quiet machine only. */
const LONG = process.env.WAVECAST_LONG === '1';
/** The delay in ms that a player may have after ten seconds of silence. Two of them wait for more sound at their start. */
const AFTER_SILENCE_MS = { GStreamer: 6500, MPlayer: 5000 };
const BROWSERS = [
  { name: 'Chromium', needs: [CHROMIUM], launch: chromium, comesBack: CODECS },
  // Firefox comes back only to a file with an end, which it can be told of MP3 alone.
  { name: 'Firefox', needs: [FIREFOX], launch: firefox, comesBack: ['mp3'] },
  { name: 'WebKitGTK', needs: WEBKIT, launch: webkit, comesBack: [] },
];

for (const { name, needs, launch, comesBack } of BROWSERS) {
  for (const codec of CODECS) {
    const after = comesBack.includes(codec) ? 'comes back by itself after a cut' : 'plays again when it is asked to after a cut';
    scenario(`${name} plays ${codec}, and ${after}`, { needs: [...needs, ...LOUDSPEAKER, 'pactl'] }, async (t, use) => {
      const { daemon, room, speaker, recording } = await stage(use);
      const wire = await use(Wire.to(daemon.port));
      const browser = await use(launch(speaker));
      await daemon.remembers(4.5);
      const tab = await Tab.open(browser, `http://localhost:${wire.port}/`);
      await listens(tab, codec);
      const before = await behind(room, speaker, recording);

      // In more places of a packet, since Chromium ends at a damaged frame of FLAC that is not in Ogg.
      for (let cuts = name === 'Chromium' && codec === 'flac' ? 3 : 0; cuts > 0; cuts--) {
        const before = wire.asked(`/live.${codec}`).length;
        wire.reset();
        await until('it to come back', () => wire.asked(`/live.${codec}`).slice(before).find(({ bytes }) => bytes > 50_000));
      }
      const path = `/live.${codec}`;
      const asked = wire.asked(path).length;
      const cut = performance.now();
      wire.reset();
      if (comesBack.includes(codec)) {
        const again = await until('it to come back', () => wire.asked(path).slice(asked).find(({ answer }) => answer));
        const first = Number(/^bytes=(\d+)-/.exec(again.headers.range)?.[1]);
        assert.ok(first > 0, again.headers.range);
        assert.equal(again.answer.status, 206);
        assert.ok(again.answer.headers['content-range'].startsWith(`bytes ${first}-`));
        await until('packets', () => again.answer.body.length > 4);
        const start = again.answer.body.subarray(0, 4).toString('latin1');
        assert.notEqual(start, 'fLaC');
        if (start === 'OggS') assert.equal(again.answer.body[5] & 2, 0, 'no page with a header');
      } else {
        // It plays what it has. A page has to give it the address again.
        await standsStill(tab);
        await tab.page.click('#listen');
      }
      // Sound from before the cut may still be in the player.
      await until('sound from after the cut', async () => {
        const { time, alike } = await room.captured(recording.last(0.25));
        return alike > GOOD && time > cut;
      });
      const later = await behind(room, speaker, recording);
      t.diagnostic(`${name}, ${codec}: ${before.toFixed(0)} ms behind, after a cut ${later.toFixed(0)} ms`);
    });
  }
}

for (const { name, needs, launch } of LONG ? BROWSERS : []) {
  scenario(`${name} is no later after ten seconds of silence`, { needs: [...needs, ...LOUDSPEAKER, 'pactl'], seconds: 300 }, async (t, use) => {
    for (const codec of CODECS) {
      const scene = await stage(use);
      await scene.daemon.remembers(4.5);
      const browser = await use(launch(scene.speaker));
      const tab = await Tab.open(browser, `http://localhost:${scene.daemon.port}/`);
      await listens(tab, codec);
      await silences(t, name, codec, scene, () => tab.page.click('#listen'));
      await browser.close();
      await scene.close();
    }
  });
}

/**
 * Players without a page, by the command line that plays an address through PulseAudio. tests/encoded_players.rs tests them;
 * here their delay is measured, with WAVECAST_LONG=1.
 */
const PLAYERS = !LONG ? [] : [
  { name: 'VLC', needs: ['vlc'], command: (url) => [...nobody(), 'vlc', '--intf=dummy', '--quiet', '--ignore-config', '--aout=pulse', url] },
  { name: 'mpv', needs: ['mpv'], command: (url) => ['mpv', '--no-config', '--no-terminal', '--ao=pulse', url] },
  { name: 'ffplay', needs: ['ffplay'], command: (url) => ['ffplay', '-nodisp', '-v', 'error', url], env: { SDL_AUDIODRIVER: 'pulseaudio' } },
  { name: 'GStreamer', needs: ['gst-launch-1.0'], command: (url) => ['gst-launch-1.0', '--quiet', 'playbin', `uri=${url}`, 'audio-sink=pulsesink'] },
  {
    name: 'MPlayer',
    needs: ['mplayer'],
    command: (url) => ['mplayer', '-really-quiet', '-noconfig', 'all', '-nolirc', '-vo', 'null', '-ao', 'pulse', url],
  },
  { name: 'MPD', needs: ['mpd', 'mpc'], start: mpd },
];

for (const player of PLAYERS) {
  const { name, needs } = player;
  scenario(`${name} plays flac, mp3 and opus from the room`, { needs: [...needs, ...LOUDSPEAKER, 'pactl'], seconds: 300 }, async (t, use) => {
    for (const codec of CODECS) {
      const scene = await stage(use);
      const { daemon, room, speaker, recording } = scene;
      await daemon.remembers(4.5);
      const url = `http://127.0.0.1:${daemon.port}/live.${codec}`;
      const start = () => use(player.start ? player.start(url, speaker) : play(player, url, speaker));
      const began = performance.now();
      let playing = await start();
      const delay = await behind(room, speaker, recording);
      const first = recording.soundAfter(began) - began;
      t.diagnostic(`${name}, ${codec}: first sound after ${first.toFixed(0)} ms, ${delay.toFixed(0)} ms behind`);
      await silences(t, name, codec, scene, async () => {
        await playing.close();
        playing = await start();
      });
      await playing.close();
      await daemon.nobodyListens();
      await scene.close();
    }
  });
}

/**
 * Measures how far a player that plays is behind after ten seconds of digital silence; and, as a report, one that `again`
 * starts in the silence: a player that fills a buffer by bytes would wait for the sound behind it.
 */
async function silences(t, name, codec, { daemon, card, sound, room, speaker, recording }, again) {
  const before = await behind(room, speaker, recording);
  const over = await behind(await silence(daemon, card, sound), speaker, recording);
  const joined = await behind(await silence(daemon, card, sound, again), speaker, recording);
  t.diagnostic(`${name}, ${codec}: ${before.toFixed(0)} ms behind, after 10 s of silence ${over.toFixed(0)} ms, joined in it ${joined.toFixed(0)} ms`);
  const most = AFTER_SILENCE_MS[name] ?? 2500;
  assert.ok(over <= Math.max(most, before + 200), `${name}, ${codec}: ${over} ms behind, ${before} ms before the silence`);
}

/**
 * Unplugs the card for ten seconds, for which the daemon inserts digital silence, and calls `during` at their beginning.
 * Returns the room from then on.
 */
async function silence(daemon, card, sound, during) {
  card.command('unplug', 'fakeraw');
  await daemon.inState('live', 'lost');
  await during?.();
  await pause(10_000);
  card.command('run', 'fakeraw');
  await daemon.inState('live', 'capturing');
  // The first quarter of a second that is compared with the sound must not begin in the silence.
  await pause(500);
  return Room.of(daemon.port, sound);
}

/** Adds a player and a button to the page, and clicks on the button, as browsers want a user to do. */
async function listens(tab, codec) {
  await tab.page.evaluate((src) => {
    const audio = document.createElement('audio');
    const button = Object.assign(document.createElement('button'), { id: 'listen', textContent: 'Listen' });
    button.addEventListener('click', () => {
      audio.src = src;
      audio.play();
    });
    document.body.prepend(audio, button);
  }, `/live.${codec}`);
  await tab.page.click('#listen');
}

/** Waits until the player has come to an end, or its clock stands still. */
async function standsStill(tab) {
  let [last, since] = [NaN, performance.now()];
  await until('the player to have played what it had', async () => {
    const { clock, over } = await tab.page.$eval('audio', ({ currentTime, ended, error }) => (
      { clock: currentTime, over: ended || error !== null }
    ));
    if (clock !== last) [last, since] = [clock, performance.now()];
    return over || performance.now() - since > 500;
  });
}

/** Starts a room, a daemon that captures it, and a loudspeaker that is recorded. */
async function stage(use) {
  const sound = noise();
  const card = await use(Card.make((file) => write(sound, file)));
  const daemon = await use(Daemon.start(INPUT, card));
  await daemon.inState('live', 'capturing');
  const room = await Room.of(daemon.port, sound);
  // Browsers that ask for more latency are later by it.
  const speaker = await use(Loudspeaker.start({ steady: !LONG }));
  // A player that must not be root may use it too.
  chmodSync(speaker.folder.path, 0o755);
  const recording = await use(speaker.record());
  return { daemon, card, sound, room, speaker, recording, close: () => recording.close() };
}

/** Returns how far the loudspeaker is behind the room in ms, once it plays the room's sound: the median of several pieces. */
async function behind(room, speaker, recording) {
  const measured = [];
  await until('the sound of the room', async () => {
    await pause(200);
    const piece = recording.last(0.25);
    const { time, alike } = await room.captured(piece);
    // The sound in the device's buffer is not audible yet.
    if (alike > GOOD) measured.push(piece.at + speaker.buffer() - time);
    return measured.length === 7;
  }, 40_000);
  return measured.sort((a, b) => a - b)[3];
}

/** Returns the words before a program that refuses to run as root. */
function nobody() {
  return process.getuid() === 0 ? ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'] : [];
}

/** Starts a player. */
function play({ command, env }, url, speaker) {
  const [program, ...words] = command(url);
  const home = process.getuid() === 0 ? '/nonexistent' : process.env.HOME;
  const child = spawn(program, words, {
    env: { ...process.env, ...speaker.env, HOME: home, ...env }, stdio: ['ignore', 'ignore', 'ignore'], detached: true,
  });
  return closing(child, () => {});
}

/** Starts an MPD and has it play an address. */
async function mpd(url, speaker) {
  const home = folder();
  const [config, socket] = [join(home.path, 'mpd.conf'), join(home.path, 'socket')];
  writeFileSync(config, `bind_to_address "${socket}"\nzeroconf_enabled "no"\n`
    + `audio_output {\n  type "pulse"\n  name "pulse"\n  server "${speaker.env.PULSE_SERVER}"\n}\n`);
  const child = spawn('mpd', ['--no-daemon', '--stderr', config], { stdio: 'ignore', detached: true });
  const mpc = (...words) => new Promise((resolve) => {
    spawn('mpc', ['--quiet', `--host=${socket}`, ...words], { stdio: 'ignore' }).on('close', (code) => resolve(code === 0));
  });
  await until('MPD', () => mpc('status'));
  assert.ok(await mpc('add', url) && await mpc('play'));
  return closing(child, home.remove);
}

/** Returns the `close` of a child process and its process group, which works more than once. */
function closing(child, after) {
  let closed;
  const close = async () => {
    try {
      // MPlayer fills its cache in a second process.
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // They have ended.
    }
    await end(child, 'SIGKILL');
    after();
  };
  return { close: () => closed ??= close() };
}
