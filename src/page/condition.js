// The condition of page, server and card in one sentence. A pure module.

import { about, words } from './words.js';

const PATIENCE_MS = 1500;

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`.replace(/\.?$/, '.');

// Returns a key of `words.condition` or 'refused', the text, and what the server says about its card.
// `told` is the server's state, `age` ms old, `alone` the ms without a connection, `state` and `detail` the player's, `missing` the
// name of an input that is not there. `full`: no place for another page; `slow`: too slow a network for Live.
export function condition({ told, age, alone, state, detail, delay, missing, full, slow, title }) {
	const problem = told?.problem ?? '';
	const say = (key, value) => {
		const text = words.condition[key];
		return [key, typeof text === 'function' ? text(value) : text, problem && /inUse|noSound|lost|dead/.test(key) ? sentence(problem) : ''];
	};
	const going = state !== 'stopped' && state !== 'interrupted';
	if (missing) return say('noInput', missing);
	if (alone > PATIENCE_MS && state !== 'playing') return say(full ? 'full' : going ? 'cut' : told ? 'gone' : 'looking');
	if (!told) return say('looking');
	if (told.phase === 'waiting') {
		return say({ absent: 'noCard', busy: 'inUse' }[told.trouble] ?? (problem ? 'noSound' : 'opening'));
	}
	if (told.phase === 'lost') return say(/was unplugged(;|$)/.test(problem) ? 'unplugged' : 'lost', about(told.seconds + age / 1000));
	if (problem && !(state === 'playing' && detail.back) && ['stopped', 'playing'].includes(state)) return say('dead');
	if (state === 'waiting') {
		if (detail.cause === 'refused') return ['refused', sentence(detail.text), ''];
		return say(detail.cause === 'ended' ? 'restarting' : 'cut');
	}
	if (state !== 'playing') return say(state, title);
	if (detail.back) return say('back', about((delay ?? 1000 * detail.back) / 1000));
	return say(slow ? 'slow' : detail.slow ? 'tooSlow' : 'live', title);
}

// True if what was measured last is not true now.
export const isStale = ({ told, alone, missing }) => Boolean(missing || alone > PATIENCE_MS || (told && told.phase !== 'capturing'));
