// The keyboard: one key, one action, and the list of all under `?`.

import { $, fill, make } from './dom.js';
import { words } from './words.js';

// Calls `actions[key]`; a key that a control uses itself is left to it.
export function listen(actions) {
	fill($('shortcuts'), 'all', () => Object.values(words.shortcuts).map(([key, what]) => (
		make('div', {}, make('dt', {}, make('kbd', { textContent: key })), make('dd', { textContent: what }))
	)));
	$('help').onclick = () => $('keys').showModal();
	$('close').onclick = () => $('keys').close();
	addEventListener('keydown', (event) => {
		if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || $('keys').open) return;
		const { target } = event;
		if (target.closest('input[type="range"], input[type="text"], textarea, select')) return;
		if (event.key === ' ' && target.closest('button, a, summary, input, audio, video')) return;
		if (event.key.startsWith('Arrow') && target.closest('input')) return;
		const key = event.key.length > 1 ? event.key : event.key.toLowerCase();
		const act = key === '?' ? $('help').onclick : actions[key];
		if (!act || !Object.hasOwn(words.shortcuts, key)) return;
		event.preventDefault();
		act();
	});
}
