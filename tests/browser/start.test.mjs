// The time until Chromium plays on an insecure origin, such as the address of a local device. There its requests carry
// the fewest headers, and the daemon must recognise Chromium all the same.

import assert from 'node:assert/strict';

import { CHROMIUM, INSECURE_HOST, Tab, chromium } from './support/browsers.mjs';
import { Daemon } from './support/daemon.mjs';
import { LOUDSPEAKER, Loudspeaker } from './support/loudspeaker.mjs';
import { scenario } from './support/scenario.mjs';
import { Wire } from './support/wire.mjs';

const BURST = 256 * 1024;

scenario('Chromium on an insecure origin gets its burst and starts at once', {
  needs: [CHROMIUM, ...LOUDSPEAKER],
}, async (t, use) => {
  const daemon = await use(Daemon.start('[input.live]\ndevice = "synth:tone"\nchannels = 1\n'));
  const wire = await use(Wire.to(daemon.port));
  const browser = await use(chromium(await use(Loudspeaker.start())));
  await daemon.remembers(3.5);

  const start = async (query) => {
    const tab = await Tab.open(browser, `http://${INSECURE_HOST}:${wire.port}/`);
    assert.equal(await tab.page.evaluate(() => window.isSecureContext), false);
    const started = await tab.play('live', { query });
    const { listeners: [listener] } = await daemon.status();
    assert.match(listener.player, /^Chrome \d/);
    // Sound in excess of the time since the request was captured before the request.
    const ahead = listener.frames_sent - listener.seconds * 44_100;
    await tab.close();
    await daemon.nobodyListens();
    t.diagnostic(`mono, 44.1 kHz, 16 bit, ${query || 'with the burst'}: starts in ${started.toFixed(0)} ms`);
    return { started, ahead: ahead * 2 };
  };
  const burst = await start('');
  const plain = await start('?back=0');
  const { headers } = wire.asked('/live.wav')[0];
  t.diagnostic(`asks with ${JSON.stringify(headers)}`);
  assert.equal(headers['sec-fetch-dest'], undefined, 'what it sends on secure origins only');

  // The status rounds to a tenth of a second.
  assert.ok(Math.abs(burst.ahead - BURST) < 15_000, `${burst.ahead} bytes of burst`);
  assert.ok(Math.abs(plain.ahead) < 15_000, `${plain.ahead} bytes of burst`);
  assert.ok(burst.started < 1000, `${burst.started} ms`);
  assert.ok(plain.started > 1500, `${plain.started} ms without the burst: it would not be needed`);
});
