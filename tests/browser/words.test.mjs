// The words of the page: every language has all of them, and none is without use. Needs no browser.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { de } from '../../src/page/words.de.js';
import { en } from '../../src/page/words.en.js';
import { pick } from '../../src/page/words.js';

const FOLDER = new URL('../../src/page/', import.meta.url);
const files = readdirSync(FOLDER).filter((name) => /\.(js|html)$/.test(name) && !/^words\.(..)\.js$/.test(name));
const source = files.map((name) => readFileSync(new URL(name, FOLDER), 'utf8')).join('\n');

/** Returns the paths of all words of a language, each with the kind of its value. */
function paths(words, before = '') {
  return Object.entries(words).flatMap(([key, value]) => {
    const nested = typeof value === 'object' && !Array.isArray(value);
    return nested ? paths(value, `${before}${key}.`) : [`${before}${key}: ${typeof value}`];
  });
}

test('every language has the same words', () => {
  const languages = readdirSync(FOLDER).filter((name) => /^words\...\.js$/.test(name));
  assert.deepEqual(languages, ['words.de.js', 'words.en.js'], 'this test knows all of them');
  assert.deepEqual(paths(de).sort(), paths(en).sort());
});

test('no word is without use', () => {
  for (const [key, value] of Object.entries(en)) {
    if (key === 'fixed') {
      for (const fixed of Object.keys(value)) assert.ok(new RegExp(`data-(text|label)="${fixed}"`).test(source), fixed);
    } else if (key === 'condition') {
      // Two are the player's states.
      for (const name of Object.keys(value)) assert.ok(source.includes(`'${name}'`), name);
    } else {
      assert.ok(new RegExp(`\\bwords\\.${key}\\b`).test(source), key);
    }
  }
});

test('no word is missing', () => {
  for (const [, fixed] of source.matchAll(/data-(?:text|label)="(\w+)"/g)) assert.equal(typeof en.fixed[fixed], 'string', fixed);
  for (const [, key] of source.matchAll(/\bwords\.(\w+)/g)) {
    if (!['js', 'de', 'en'].includes(key)) assert.notEqual(en[key], undefined, key);
  }
});

test('the browser chooses the language', () => {
  for (const [wanted, language] of [[['de-AT', 'en'], 'de'], [['fr', 'DE'], 'de'], [['en-GB', 'de'], 'en'], [['fr'], 'en'], [[], 'en'], [['constructor'], 'en']]) {
    assert.equal(pick(wanted), language, `${wanted}`);
  }
});
