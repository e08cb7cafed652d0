// Short forms for the page's elements.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
}

export const options = (all) => all.map(([value, textContent]) => make('option', { value, textContent }));

// Only on a change, to avoid redraws.
export const set = (element, property, value) => element[property] === value || (element[property] = value);
export const write = (element, text) => set(element, 'textContent', text);
export const attribute = (element, name, value) => element.getAttribute(name) === `${value}` || element.setAttribute(name, value);
export const label = (element, text) => attribute(element, 'aria-label', text);

// Replaces the children when `what` they show differs.
export function fill(element, what, children) {
	if (element.dataset.of === what) return;
	element.dataset.of = what;
	element.replaceChildren(...children());
}

export function mark(textContent, share, side = 'left') {
	const element = make('span', { textContent });
	element.style[side] = `${100 * share}%`;
	// Those at the ends stay within.
	const back = share < 0.02 ? 0 : share > 0.98 ? 100 : 50;
	element.style.transform = side === 'left' ? `translateX(-${back}%)` : `translateY(${back}%)`;
	return element;
}

// For the next visit; a browser may forbid the storage.
export function kept(name, value) {
	try {
		if (value !== undefined) localStorage.setItem(`wavecast.${name}`, value);
		return localStorage.getItem(`wavecast.${name}`);
	} catch {
		return null;
	}
}

export async function copy(text, button, copied) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		// Insecure origins have only the old clipboard API.
		const field = make('textarea', { value: text, className: 'unseen' });
		button.after(field);
		field.select();
		document.execCommand('copy');
		field.remove();
		button.focus();
	}
	const before = button.dataset.before ??= button.textContent;
	button.textContent = copied;
	write($('said'), copied);
	setTimeout(() => { button.textContent = before; }, 2000);
}
