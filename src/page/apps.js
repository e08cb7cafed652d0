// "Listen in another app": the addresses of the streams, and the player for other sites.

import { at } from './address.js';
import { codecName } from './codec.js';
import { $, copy, fill, label, make } from './dom.js';
import { qr } from './qr.js';
import { words } from './words.js';

// `hello` has the names under which other machines find the device; `several`: the page's address must name the input.
export function showApps({ input, title, codecs, hello, several }) {
	const { host, protocol } = location;
	// Other machines cannot use localhost. Behind a proxy, by HTTPS or below a path, only its own name leads here.
	const here = /^(localhost|127\.|\[::1\])/.test(host);
	const others = protocol === 'https:' || /\/.*\//.test(location.pathname) ? [] : [hello.name, hello.address];
	const hosts = [...new Set(here ? [...others, host] : [host, ...others])].filter(Boolean);
	const lonely = here && !hello.address;
	$('onlyhere').hidden = !lonely;
	addresses(input, title, ['wav', ...codecs], hosts[0]);
	const page = (host) => reach(host, several ? `.?input=${input}` : '.');
	// By IP address: not all phones resolve local names.
	code(lonely ? null : page(others[1] ?? hosts[0]));
	$('share').onclick = () => share(title, page(hosts[0]));
}

const reach = (host, path) => at(path).replace(`//${location.host}`, `//${host}`);

function copier(text) {
	const button = make('button', { textContent: words.copy, onclick: () => copy(text, button, words.copied) });
	label(button, `${words.copy}: ${text}`);
	return button;
}

function addresses(input, title, kinds, host) {
	const links = kinds.map((kind) => reach(host, `${input}.${kind}`));
	fill($('addresses'), links.join(), () => kinds.map((kind, i) => {
		const list = make('a', { href: at(`${input}.m3u${i ? `?codec=${kind}` : ''}`), textContent: words.playlist });
		label(list, `${words.playlist} ${codecName(kind)}`);
		return make('li', {},
			make('b', { textContent: codecName(kind) }),
			make('span', {}, make('a', { href: at(`${input}.${kind}`), textContent: links[i] }), make('small', { textContent: words.uses[kind] })),
			list, copier(links[i]));
	}));
	const frame = `<iframe src="${reach(host, `embed?input=${input}`)}" title="${title.replace(/[<>&"]/g, '')}" width="420" height="210" frameborder="0" allow="autoplay"></iframe>`;
	fill($('frame'), frame, () => [make('code', { textContent: frame }), copier(frame)]);
}

function code(target) {
	const rows = target && qr(target);
	$('phone').hidden = !rows;
	if (!rows) return;
	$('code').setAttribute('viewBox', `-4 -4 ${rows.length + 8} ${rows.length + 8}`);
	label($('code'), words.code(target));
	const dark = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : '')));
	$('code').firstChild.setAttribute('d', dark.join(''));
}

// By the system's own dialogue where there is one.
async function share(title, url) {
	if (navigator.share) return navigator.share({ title, url }).catch(() => {});
	copy(url, $('share'), words.copied);
}
