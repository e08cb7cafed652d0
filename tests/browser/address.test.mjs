// The addresses that the page requests. Needs no browser.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { at } from '../../src/page/address.js';

const open = (address) => {
  globalThis.location = new URL(address);
};

beforeEach(() => open('http://pi:4410/'));

test('an address of the page is relative to the page', () => {
  assert.equal(at('live.wav?last=10'), 'http://pi:4410/live.wav?last=10');
  open('https://example.org/audio/index.html?input=roof#x');
  assert.equal(at('live.wav'), 'https://example.org/audio/live.wav');
  assert.equal(at('.?input=roof'), 'https://example.org/audio/?input=roof');
  assert.equal(at('icon.svg', 'https://example.org/audio/@page/live.js'), 'https://example.org/audio/@page/icon.svg');
});

test('no address has a user and a password, which fetch refuses', () => {
  open('http://anna:a%40b@pi:4410/');
  for (const path of ['live.wav?latency=low', 'levels?interval=100', '.']) {
    const address = at(path);
    assert.ok(!address.includes('anna') && !address.includes('@'), address);
    assert.ok(new Request(address));
    assert.throws(() => new Request(new URL(path, location)), /credentials/);
  }
  assert.equal(at('icon.svg', 'http://anna:x@pi:4410/@page/live.js'), 'http://pi:4410/@page/icon.svg');
});

test('every address has the token that the page was opened with', () => {
  open('http://pi:4410/?input=live&token=a-_Z');
  assert.equal(at('live.wav'), 'http://pi:4410/live.wav?token=a-_Z');
  assert.equal(at('live.wav?last=10&utc=-60'), 'http://pi:4410/live.wav?last=10&utc=-60&token=a-_Z');
  assert.equal(at('.?input=roof'), 'http://pi:4410/?input=roof&token=a-_Z');
});
