// All words of the page.

const seconds = (s) => {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} days`;
};
const length = (s) => (s < 120 || s % 60 > 0 ? `${s} s` : `${s / 60} min`);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const stop = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** What a channel is called. */
export function channelName(channel, channels) {
  if (channels === 1) return 'Mono';
  if (channels === 2) return channel === 0 ? 'Left' : 'Right';
  return `Channel ${channel + 1}`;
}

export const texts = {
  // What stands on the page from the beginning, by data-text.
  fixed: {
    input: 'Input',
    way: 'How to listen',
    live: 'Live',
    liveHint: 'as it happens',
    steady: 'Steady',
    steadyHint: 'seconds behind, for a phone in the pocket',
    volume: 'Volume',
    again: 'Hear that again',
    toLive: 'Back to live',
    level: 'Level',
    minute: 'The last minute',
    minuteAgo: '1 minute ago',
    now: 'now',
    save: 'Save the last …',
    saveHint: 'A WAV file of what was just heard.',
    device: 'What it is',
    others: 'For other players and for the phone',
    playlists: 'Playlists',
    state: 'state for programs',
  },
  play: 'Play',
  stop: 'Stop',
  playing: (input) => `▶ ${input} · wavecast`,
  title: 'wavecast',
  jump: (s) => `${s} s`,
  jumpLabel: (s) => `Hear the last ${s} seconds again`,
  save: (s) => length(s),
  saveLabel: (s) => `Save the last ${length(s)} as a WAV file`,

  // What is happening. Each is given with the time since when, in seconds, where that is known.
  looking: () => 'Looking for the device …',
  gone: () => 'The device cannot be reached. The page looks for it and goes on by itself.',
  goneWhilePlaying: () => 'The connection was lost. The page looks for it and plays on by itself.',
  noInput: (input) => `There is no input “${input}” any more.`,
  noSound: (problem) => `No sound yet: ${stop(problem)}`,
  opening: () => 'The sound card is being opened …',
  unplugged: (s) => `The sound card was unplugged ${seconds(s)} ago, waiting for it.`,
  lost: (problem, s) => `${capital(problem)}. Silent for ${seconds(s)}, waiting for it.`,
  stopped: (input) => `Press play to hear “${input}” now.`,
  connecting: () => 'Starting …',
  buffering: () => 'Waiting for more sound …',
  refused: (text) => capital(stop(text)),
  restarting: () => 'The stream began anew …',
  interrupted: () => 'This device has paused the sound. Press play to go on.',
  live: (input) => `You hear “${input}” live.`,
  back: () => 'You hear what was.',

  delay: (ms) => `${Math.round(ms)} ms behind the room`,
  about: (ms) => `about ${(ms / 1000).toFixed(1)} s behind the room`,
  ago: (ms, time) => `${Math.round(ms / 1000)} s ago, at ${time}`,

  decibels: (db) => (db === null ? 'silence' : `${db.toFixed(1).replace('-', '−')} dBFS`),
  meter: (channel) => `${channel}, peak level`,
  clipped: (channel, count) => (
    count > 0 ? `${channel}: ${count} samples clipped; press to forget them` : `${channel}: nothing clipped`
  ),
  pitches: 'The pitches of the last minute, low ones below, loud ones bright',
  loudness: 'How loud the last minute was; its pitches are shown while you listen Live',

  facts: {
    card: 'Sound card',
    format: 'Format',
    listeners: 'Listeners',
    overruns: 'Overruns',
    losses: 'Card lost',
    dropouts: 'Gaps on this page',
  },
  format: ({ rate, channels, sample }) => {
    const places = channels === 1 ? 'mono' : channels === 2 ? 'stereo' : `${channels} channels`;
    return `${rate / 1000} kHz, ${places}, ${sample.slice(1)} bit`;
  },
  times: (count) => (count === 0 ? 'none' : count === 1 ? 'once' : `${count} times`),
  gaps: (count, s) => (count === 0 ? 'none' : `${count}, the last ${seconds(s)} ago`),
  nothing: '–',

  copy: 'Copy',
  copied: 'Copied',
  copyLabel: (address) => `Copy ${address}`,
  code: (address) => `QR code of ${address}`,
  onlyHere: 'The device listens to itself only: nobody else can reach these addresses.',
  version: (version) => `wavecast ${version}`,
};
