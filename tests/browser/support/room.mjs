// A room whose sound identifies its time: noise without self-similarity.

import { writeFileSync } from 'node:fs';

import { alikeAt, whereAlike } from './alike.mjs';
import { RATE } from './loudspeaker.mjs';

const SECONDS = 10;

/** Returns a loop of ten seconds of noise without treble, in which a position is found quickly. */
export function noise() {
  let [seed, low] = [1, 0];
  return Float32Array.from({ length: SECONDS * RATE }, () => {
    seed = Math.imul(seed, 1_103_515_245) + 12_345 | 0;
    low += (seed / 2 ** 31 - low) * 0.08;
    return low * 0.9;
  });
}

/** Writes a sound as both channels of a card. */
export function write(sound, file) {
  const raw = Buffer.alloc(sound.length * 4);
  sound.forEach((sample, i) => {
    raw.writeInt16LE(Math.round(sample * 32767), i * 4);
    raw.writeInt16LE(Math.round(sample * 32767), i * 4 + 2);
  });
  writeFileSync(file, raw);
}

/** A mapping from the room's sound to the capture time in a daemon on this machine. */
export class Room {
  /** Creates the mapping for a daemon whose input `live` plays `sound`. */
  static async of(port, sound) {
    const room = new Room();
    room.sound = sound;
    room.url = `http://127.0.0.1:${port}`;
    // The offset between frames of the stream and samples of the sound.
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

  /** Returns the latest capture time before `at` of the recording's beginning, and the correlation with the source. */
  async captured({ sound, at }) {
    const { frame, time } = await this.#edge();
    const place = whereAlike(sound, this.sound) + this.first;
    const loop = this.sound.length;
    // The newest matching frame that is older than the recording.
    const newest = frame + (at - time) / 1000 * RATE;
    const found = place + Math.floor((newest - place) / loop) * loop;
    return { time: time + (found - frame) / RATE * 1000, alike: alikeAt(place - this.first, sound, this.sound) };
  }

  /** Returns a frame of the stream and its capture time, by this process's clock. */
  async #edge() {
    const events = await fetch(`${this.url}/live/levels`);
    let text = '';
    for await (const piece of events.body) {
      text += Buffer.from(piece).toString();
      const found = /^data: (\{"frame".*\})$/m.exec(text);
      if (!found) continue;
      const { frame, time } = JSON.parse(found[1]);
      // Both clocks are CLOCK_MONOTONIC, but Node counts from its own start.
      const offset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
      return { frame, time: time - offset };
    }
    throw new Error('no levels');
  }
}
