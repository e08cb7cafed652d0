// The strip of inputs: each one's title, level and state at a glance.

import { $, attribute, fill, make, set, write } from './dom.js';
import { words } from './words.js';

const FLOOR = -60;

// `chosen` is null if none of them is.
export function showInputs(names, titles, chosen, choose) {
	$('inputs').hidden = names.length < 2 && chosen !== null;
	const part = (className, textContent = '') => make('span', { className, textContent });
	fill($('inputs'), JSON.stringify([names, titles]), () => names.map((name, i) => (
		make('button', { value: name, onclick: () => choose(name) }, part('name', titles[i]), part('state'),
			make('span', { className: 'rail' }, make('i')))
	)));
	for (const button of $('inputs').children) attribute(button, 'aria-pressed', button.value === chosen);
}

// Takes `[[phase, peak], …]`.
export function showLevels(all) {
	[...$('inputs').children].forEach((button, i) => {
		const [phase, peak] = all[i] ?? [];
		const [, state, rail] = button.children;
		write(state, words.inputState[phase] ?? '');
		set(rail.firstChild.style, 'transform', `scaleX(${Math.max(0, 1 - (peak ?? -200) / FLOOR).toFixed(3)})`);
	});
}
