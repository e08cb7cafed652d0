// The keyboard: one key, one action, and the list of all under `?`.

import { $, make } from './dom.js';
import { words } from './words.js';

// In the order of `words.shortcuts`.
const KEYS = { ' ': words.space, m: 'M', ArrowLeft: '←', ArrowRight: '→', l: 'L', f: 'F', '?': '?' };

// A key that a control uses itself is left to it.
export function listen(actions) {
	$('shortcuts').append(...Object.values(KEYS).map((key, i) => (
		make('div', {}, make('dt', {}, make('kbd', { textContent: key })), make('dd', { textContent: words.shortcuts[i] }))
	)));
	actions['?'] = $('help').onclick = () => $('keys').showModal();
	$('close').onclick = () => $('keys').close();
	addEventListener('keydown', (event) => {
		if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || $('keys').open) return;
		const own = event.key === ' ' ? 'button, a, summary, input, audio, video' : event.key.startsWith('Arrow') ? 'input' : 'input[type="range"]';
		if (event.target.closest(`${own}, select`)) return;
		const act = actions[event.key.length > 1 ? event.key : event.key.toLowerCase()];
		if (!act) return;
		event.preventDefault();
		act();
	});
}
