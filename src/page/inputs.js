// The strip of inputs: each one's title, level and state at a glance.

import { $, attribute, fill, make, set, write } from './dom.js';
import { words } from './words.js';

const FLOOR = -60;

export class Inputs {
	#buttons = [];
	#choose;

	constructor(choose) {
		this.#choose = choose;
	}

	// Shows the inputs; `chosen` is null if none of them is.
	show(names, titles, chosen) {
		const shown = names.length > 1 || chosen === null;
		$('inputs').hidden = !shown;
		fill($('inputs'), JSON.stringify([names, titles]), () => {
			this.#buttons = names.map((name, i) => {
				const button = make('button', { type: 'button', value: name, onclick: () => this.#choose(name) },
					make('span', { className: 'name', textContent: titles[i] }), make('span', { className: 'state' }), make('span', { className: 'bar' }, make('i')));
				button.querySelector('.bar').ariaHidden = 'true';
				return button;
			});
			return this.#buttons;
		});
		for (const button of this.#buttons) attribute(button, 'aria-pressed', button.value === chosen);
	}

	// Takes `[[phase, peak], …]`, in the order of the names.
	levels(all) {
		this.#buttons.forEach((button, i) => {
			const [phase, peak] = all[i] ?? [];
			const [, state, bar] = button.children;
			set(button.dataset, 'phase', phase ?? '');
			write(state, words.inputState[phase] ?? '');
			set(bar.firstChild.style, 'transform', `scaleX(${Math.max(0, 1 - (peak ?? -200) / FLOOR).toFixed(3)})`);
		});
	}
}
