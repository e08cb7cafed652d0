// The words of the page in the browser's language, and how it writes numbers. To add a language, add its file here.

import { de } from './words.de.js';
import { en } from './words.en.js';

const languages = { en, de };

export function pick(wanted = []) {
	return wanted.map((tag) => tag.toLowerCase().split('-')[0]).find((base) => Object.hasOwn(languages, base)) ?? 'en';
}

export const language = pick(globalThis.navigator?.languages);
export const words = languages[language];

export const number = (value, digits) => `${digits === undefined ? value : value.toFixed(digits)}`.replace('-', '−').replace('.', words.point);
export const decibels = (db) => (db < -150 ? '−∞' : number(db, 1));
export const clock = (ms) => new Date(ms).toLocaleTimeString();

// Roughly, and to a tenth of a second.
export function about(s) {
	const [unit, name] = s < 90 ? [1, 's'] : s < 5400 ? [60, 'min'] : s < 172_800 ? [3600, 'h'] : [86_400, words.days];
	return `${Math.round(s / unit)} ${name}`;
}
export const exactly = (s) => (s < 120 || s % 60 > 0 ? `${number(Math.round(s * 10) / 10)} s` : `${s / 60} min`);
