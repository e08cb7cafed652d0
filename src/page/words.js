// The words of the page in the browser's language. To add a language, add its file here.

import { de } from './words.de.js';
import { en } from './words.en.js';

const languages = { en, de };

// The first wanted language that there is.
export function pick(wanted = []) {
	return wanted.map((tag) => tag.toLowerCase().split('-')[0]).find((base) => Object.hasOwn(languages, base)) ?? 'en';
}

export const language = pick(globalThis.navigator?.languages);
export const words = languages[language];
