// A loudspeaker without hardware: a private PulseAudio server whose only device is a recordable null sink.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { end, folder, until } from './scenario.mjs';

export const LOUDSPEAKER = ['pulseaudio', 'parec'];
export const RATE = 44_100;
// With rewinds the null sink sleeps for up to two seconds before it notices a new stream.
const SPECIFICATION = `norewinds=1 rate=${RATE} channels=2 format=s16le`;

/** A loudspeaker. Browsers find it by `env`. Firefox plays nothing on a machine without a loudspeaker. */
export class Loudspeaker {
  log = [];

  /**
   * Starts the server. Browsers request low latency, and on a busy machine PulseAudio then drops sound on the last step.
   * `steady` makes browsers request more latency, at the price of their clocks and of a late start.
   */
  static async start({ steady = false } = {}) {
    const speaker = new Loudspeaker();
    speaker.folder = folder();
    const { path } = speaker.folder;
    const socket = join(path, 'socket');
    speaker.env = { PULSE_SERVER: `unix:${socket}`, ...(steady && { PULSE_LATENCY_MSEC: '400' }) };
    speaker.child = spawn('pulseaudio', [
      '-n', '--daemonize=no', '--system=no', '--exit-idle-time=-1', '--use-pid-file=no', '--log-level=error',
      '-L', `module-null-sink sink_name=room ${SPECIFICATION}`,
      '-L', `module-native-protocol-unix auth-anonymous=1 socket=${socket}`,
    ], { env: { ...process.env, HOME: path, XDG_RUNTIME_DIR: path }, stdio: ['ignore', 'ignore', 'pipe'] });
    process.once('exit', () => speaker.child.kill('SIGKILL'));
    createInterface(speaker.child.stderr).on('line', (line) => speaker.log.push(line));
    await until('PulseAudio to start', () => {
      if (speaker.child.exitCode !== null) throw new Error(`PulseAudio ended: ${speaker.log.join('\n')}`);
      return existsSync(socket);
    });
    return speaker;
  }

  /** Records for `seconds`. Returns the sound of the two channels, as samples between -1 and 1. */
  async hear(seconds) {
    const recorder = spawn('parec', [
      '--device=room.monitor', '--raw', '--format=s16le', `--rate=${RATE}`, '--channels=2',
    ], { env: { ...process.env, ...this.env }, stdio: ['ignore', 'pipe', 'ignore'] });
    const pieces = [];
    let bytes = 0;
    recorder.stdout.on('data', (piece) => {
      pieces.push(piece);
      bytes += piece.length;
    });
    try {
      await until(`${seconds} s of recording`, () => bytes >= seconds * RATE * 4, seconds * 1000 + 10_000);
    } finally {
      await end(recorder);
    }
    return channels(Buffer.concat(pieces));
  }

  /** Starts a recording. The sound is available as soon as PulseAudio delivers it. */
  async record() {
    const recording = new Recording();
    await recording.start(this.env);
    return recording;
  }

  /**
   * Returns the latency of the device's buffer in ms, which a real device has as well. A recording of the device is early
   * by that latency.
   */
  buffer() {
    const env = { ...process.env, ...this.env };
    const text = execFileSync('pactl', ['list', 'sinks'], { env: { ...env, LC_ALL: 'C' } }).toString();
    return Number(/configured (\d+) usec/.exec(text)[1]) / 1000;
  }

  async close() {
    await end(this.child);
    this.folder.remove();
  }
}

/** A recording of the loudspeaker with its times. */
export class Recording {
  #pieces = [];
  #bytes = 0;
  /** The time (ms, of `performance.now()`) of the first sample, computed from the piece with the least delay. */
  began = Infinity;

  async start(env) {
    this.child = spawn('parec', [
      '--device=room.monitor', '--raw', '--format=s16le', `--rate=${RATE}`, '--channels=2', '--latency-msec=10',
    ], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'ignore'] });
    this.child.stdout.on('data', (piece) => {
      this.#pieces.push(piece);
      this.#bytes += piece.length;
      this.began = Math.min(this.began, performance.now() - this.#bytes / 4 / RATE * 1000);
    });
    await until('the recording to begin', () => this.#bytes > 0);
  }

  /** The recorded length in seconds. */
  get seconds() {
    return this.#bytes / 4 / RATE;
  }

  /** Returns the last `seconds` of the first channel, and the time of the first sample. */
  last(seconds) {
    const sound = channels(Buffer.concat(this.#pieces))[0];
    const first = Math.max(0, sound.length - Math.round(seconds * RATE));
    return { sound: sound.subarray(first), at: this.began + first / RATE * 1000 };
  }

  /** Returns the time of the first sound after `time`, or null. */
  soundAfter(time) {
    const { sound } = this.last(Infinity);
    const from = Math.max(0, Math.ceil((time - this.began) / 1000 * RATE));
    const at = sound.subarray(from).findIndex((sample) => Math.abs(sample) > 0.001);
    return at < 0 ? null : this.began + (from + at) / RATE * 1000;
  }

  close() {
    return end(this.child);
  }
}

/** Splits interleaved 16-bit stereo into two channels. */
export function channels(buffer) {
  const frames = Math.floor(buffer.length / 4);
  const channel = (c) => Float32Array.from({ length: frames }, (_, i) => buffer.readInt16LE(i * 4 + c * 2) / 32768);
  return [channel(0), channel(1)];
}
