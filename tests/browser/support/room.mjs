// A room whose sound says when it was heard: noise that is unlike itself at every other time.

import { writeFileSync } from 'node:fs';

import { alikeAt, whereAlike } from './alike.mjs';
import { RATE } from './loudspeaker.mjs';

const SECONDS = 10;

/** Noise without treble, so that a place in it is found soon: a loop of ten seconds. */
export function noise() {
  let [seed, low] = [1, 0];
  return Float32Array.from({ length: SECONDS * RATE }, () => {
    seed = Math.imul(seed, 1_103_515_245) + 12_345 | 0;
    low += (seed / 2 ** 31 - low) * 0.08;
    return low * 0.9;
  });
}

/** Writes it as both channels of a card. */
export function write(sound, file) {
  const raw = Buffer.alloc(sound.length * 4);
  sound.forEach((sample, i) => {
    raw.writeInt16LE(Math.round(sample * 32767), i * 4);
    raw.writeInt16LE(Math.round(sample * 32767), i * 4 + 2);
  });
  writeFileSync(file, raw);
}

/** Knows when each part of the room's sound was captured by a daemon on this machine. */
export class Room {
  /** Looks at a daemon whose input `live` plays that sound. */
  static async of(port, sound) {
    const room = new Room();
    room.sound = sound;
    room.url = `http://127.0.0.1:${port}`;
    // Which frame of the stream is which of the sound.
    const stream = await fetch(`${room.url}/live.wav?latency=low`);
    const first = Number(stream.headers.get('wavecast-frame').split('/')[1]);
    let bytes = Buffer.alloc(0);
    for await (const piece of stream.body) {
      bytes = Buffer.concat([bytes, piece]);
      if (bytes.length > RATE * 2) break;
    }
    const heard = Float32Array.from({ length: RATE / 4 }, (_, i) => bytes.readInt16LE(44 + 4 * i) / 32768);
    room.first = first - whereAlike(heard, sound);
    return room;
  }

  /** When the card heard what a recording has at its beginning, the last time before `at`; and how alike they are. */
  async captured({ sound, at }) {
    const { frame, time } = await this.#edge();
    const place = whereAlike(sound, this.sound) + this.first;
    const loop = this.sound.length;
    // The newest such frame that is older than the recording.
    const newest = frame + (at - time) / 1000 * RATE;
    const found = place + Math.floor((newest - place) / loop) * loop;
    return { time: time + (found - frame) / RATE * 1000, alike: alikeAt(place - this.first, sound, this.sound) };
  }

  /** A frame of the stream and when it was captured, by this process's clock. */
  async #edge() {
    const events = await fetch(`${this.url}/live/levels`);
    let text = '';
    for await (const piece of events.body) {
      text += Buffer.from(piece).toString();
      const found = /^data: (\{"frame".*\})$/m.exec(text);
      if (!found) continue;
      const { frame, time } = JSON.parse(found[1]);
      // Both are CLOCK_MONOTONIC, but Node counts from its own start.
      const offset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
      return { frame, time: time - offset };
    }
    throw new Error('no levels');
  }
}
