// Live playback over an air like that of a Wi-Fi: it goes on, it does not click, and it changes to *Background* where the air
// carries too little. The delays and the number of gaps are a matter of tests/page/jitter.test.mjs, which no busy machine disturbs.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { AirApart } from './support/air.mjs';
import { CHROMIUM, FIREFOX, INSECURE_HOST, Tab, chromium, firefox } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario, until } from './support/scenario.mjs';

const TONE = '[input.live]\ndevice = "synth:tone"\n';
const SECONDS = 12;
/** The tone's peak is 0.13, and its samples differ by 0.008 from one to the next. */
const CLICK = 0.03;
/** The clicks that are allowed: a source node that is scheduled while a busy machine stands still may come too late. */
const MOST_CLICKS = 6;

const BROWSERS = [
  { name: 'Chromium', programs: CHROMIUM, launch: chromium },
  { name: 'Firefox', programs: FIREFOX, launch: firefox },
];

for (const { name, programs, launch } of BROWSERS) {
  scenario(`${name} plays on without a click over an air that stalls`, {
    needs: [programs, ...LOUDSPEAKER],
  }, async (t, use) => {
    const daemon = await use(Daemon.start(TONE));
    const air = await use(AirApart.to(daemon.port, 'far'));
    const browser = await use(launch(await use(Loudspeaker.start())));
    const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${air.port}/`, { before: record });
    await tab.ready();
    await tab.press('#play');
    await tab.inState('playing');
    await pause(SECONDS * 1000);
    const { delay, figures } = await tab.figures();
    const { seconds, clicks } = await tab.page.evaluate(() => window.heard());
    t.diagnostic(
      `${name}: ${await tab.gaps()} gaps, ${delay.toFixed(0)} ms behind the room, ` +
      `${(100 * figures.stretched / SECONDS).toFixed(1)} % stretched; ${clicks.length} clicks in ${seconds.toFixed(1)} s: ${clicks}`,
    );
    assert.ok(seconds > SECONDS / 4, `${seconds} s of sound recorded`);
    assert.ok(clicks.filter((step) => step > CLICK).length <= MOST_CLICKS, `steps of ${clicks}`);
  });

  scenario(`${name} changes to a compressed stream where the air carries less than PCM`, {
    needs: [programs, ...LOUDSPEAKER],
  }, async (t, use) => {
    const daemon = await use(Daemon.start(TONE));
    const air = await use(AirApart.to(daemon.port, 'narrow'));
    const browser = await use(launch(await use(Loudspeaker.start())));
    const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${air.port}/`);
    await tab.ready();
    const clicked = await tab.press('#play');
    await tab.says('The network is slow. Playing in Background.');
    t.diagnostic(`${name}: said ${((performance.now() - clicked) / 1000).toFixed(1)} s after the click`);
    await until('a compressed stream', async () => /^(Opus|MP3)$/.test(await tab.fact('playing')));
    await until('one listener', async () => (await daemon.status()).listeners.length === 1);
    // The choice is the listener's for the next time.
    await tab.page.click('#play');
    await tab.inState('stopped');
    await tab.page.reload();
    await tab.ready();
    assert.equal(await tab.page.$eval('[name="way"][value="live"]', (radio) => radio.checked), true);
    assert.deepEqual(tab.complaints, []);
  });
}

/** Runs in the page: records what goes to the loudspeaker, and finds steps in it. */
function record() {
  const BLOCK = 16_384;
  const STEP = 0.02;
  const { connect } = AudioNode.prototype;
  const blocks = [];
  let recorder;
  AudioNode.prototype.connect = function (to, ...more) {
    if (to instanceof AudioDestinationNode && this !== recorder) {
      if (!recorder) {
        recorder = to.context.createScriptProcessor(BLOCK, 1, 1);
        let before = performance.now();
        recorder.onaudioprocess = ({ inputBuffer }) => {
          const now = performance.now();
          // Late on a busy machine, a block may be overwritten or left out.
          const whole = now - before < 1500 * BLOCK / to.context.sampleRate;
          before = now;
          blocks.push(whole ? inputBuffer.getChannelData(0).slice() : null);
        };
        connect.call(recorder, to);
      }
      connect.call(this, recorder);
    }
    return connect.call(this, to, ...more);
  };
  window.heard = () => {
    const clicks = [];
    let [sounded, last] = [0, null];
    for (const block of blocks) {
      if (!block) last = null;
      for (const sample of block ?? []) {
        if (last !== null && Math.abs(sample - last) > STEP) clicks.push(Math.round(1000 * Math.abs(sample - last)) / 1000);
        if (sample !== 0) sounded++;
        last = sample;
      }
    }
    return { seconds: sounded / recorder.context.sampleRate, clicks };
  };
}
