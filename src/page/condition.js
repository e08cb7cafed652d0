// The condition of page, server and card in one sentence: the most important first. A pure module.

import { words } from './words.js';

// Time without a connection until it is reported.
const PATIENCE_MS = 1500;

// Returns a key of `words.condition`, and its text.
//
// `told` is the server's state or null, `age` the time in ms since it came, `alone` the time in ms without a connection, 0
// with one. `state` and `detail` are the player's, `delay` in ms. `missing` is the name of an input that is not there,
// `full` is true if the server has no place for another page. `title` is the input's, where there are several.
export function condition({ told, age, alone, state, detail, delay, missing, full, title }) {
	const say = (key, ...values) => {
		const text = words.condition[key];
		return [key, typeof text === 'function' ? text(...values) : text];
	};
	const going = state !== 'stopped' && state !== 'interrupted';
	if (missing) return say('noInput', missing);
	if (alone > PATIENCE_MS && state !== 'playing') return say(full ? 'full' : going ? 'cut' : told ? 'gone' : 'looking');
	if (!told) return say('looking');
	const problem = told.problem ?? '';
	if (told.phase === 'waiting') {
		if (!problem) return say('opening');
		return say(/no capture card/.test(problem) ? 'noCard' : / is in use by /.test(problem) ? 'inUse' : 'noSound');
	}
	if (told.phase === 'lost') {
		return say(/was unplugged(;|$)/.test(problem) ? 'unplugged' : 'lost', told.seconds + age / 1000);
	}
	if (problem && !(state === 'playing' && detail.back) && ['stopped', 'playing'].includes(state)) return say('dead');
	if (state === 'stopped') return say('stopped', title);
	if (state === 'waiting') {
		if (detail.cause === 'refused') return say('refused', detail.text);
		return say({ ended: 'restarting', slow: 'slow' }[detail.cause] ?? 'cut');
	}
	if (state !== 'playing') return say(state);
	// Live by FLAC, where the network is too slow for all of it, or even for that.
	if (detail.slow) return say('tooSlow');
	if (detail.codec === 'flac' && !detail.back) return say('lossless', title);
	return detail.back ? say('back', Math.round((delay ?? 1000 * detail.back) / 1000)) : say('live', title);
}

// True if what was measured last is not true now.
export const isStale = ({ told, alone, missing }) => Boolean(missing || alone > PATIENCE_MS || (told && told.phase !== 'capturing'));
