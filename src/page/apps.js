// "Listen in another app": the addresses of the streams, to copy, to scan, and in commands.

import { at } from './address.js';
import { $, copy, fill, label, make, write } from './dom.js';
import { qr } from './qr.js';
import { words } from './words.js';

// Shows the addresses of an input. `codecs` are those of its streams besides WAV; `hello` has the names under which other
// machines find the device; `several` is true if the page's address must name the input.
export function showApps({ input, title, codecs, hello, several }) {
	const { host, protocol } = location;
	// Other machines cannot use localhost; an HTTPS proxy has only the name in the URL.
	const here = /^(localhost|127\.|\[::1\])/.test(host);
	const others = protocol === 'https:' ? [] : [hello.name, hello.address];
	const hosts = [...new Set(here ? [...others, host] : [host, ...others])].filter(Boolean);
	const lonely = here && !hello.address;
	$('onlyhere').hidden = !lonely;
	fill($('host'), hosts.join(), () => hosts.map((host) => make('option', { value: host, textContent: host })));
	$('host').parentElement.hidden = hosts.length < 2;
	const show = () => addresses({ input, title, codecs, host: $('host').value });
	$('host').onchange = show;
	show();
	// By IP address: not all phones resolve local names.
	const target = reach(others[1] ?? hosts[0], several ? `.?input=${input}` : '.');
	code(lonely ? null : target);
	$('share').onclick = () => share(title, reach(here ? hosts[0] : host, several ? `.?input=${input}` : '.'));
}

const reach = (host, path) => at(path).replace(location.host, host);

function addresses({ input, title, codecs, host }) {
	const kinds = ['wav', ...['flac', 'mp3', 'opus'].filter((codec) => codecs.includes(codec))];
	const links = kinds.map((kind) => reach(host, `${input}.${kind}`));
	fill($('addresses'), links.join(), () => kinds.map((kind, i) => {
		const link = links[i];
		const button = make('button', { type: 'button', textContent: words.copy, onclick: () => copy(link, button, words.copied) });
		label(button, words.copyLabel(link));
		const list = make('a', { href: at(`${input}.m3u${kind === 'wav' ? '' : `?codec=${kind}`}`), textContent: words.playlist });
		label(list, `${words.playlist} ${words.codec(kind)}`);
		return make('li', {},
			make('b', { textContent: words.codec(kind) }),
			make('span', {}, make('a', { href: at(`${input}.${kind}`), textContent: link }), make('small', { textContent: words.uses[kind] })),
			list, button);
	}));
	const best = reach(host, `${input}.${codecs.includes('mp3') ? 'mp3' : 'wav'}`);
	const frame = `<iframe src="${reach(host, `embed?input=${input}`)}" title="${title.replace(/[<>&"]/g, '')}" width="420" height="210" frameborder="0" allow="autoplay"></iframe>`;
	const commands = [`vlc ${links[0]}`, `mpv --no-cache ${links[0]}`, `ffmpeg -i ${links[0]} -t 60 minute.flac`, `curl -O ${best}`, frame];
	fill($('commands'), commands.join(), () => commands.map((text) => {
		const button = make('button', { type: 'button', textContent: words.copy, onclick: () => copy(text, button, words.copied) });
		label(button, words.copyLabel(text));
		return make('li', {}, make('code', { textContent: text }), button);
	}));
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

// By the system's own dialogue where there is one: on secure origins.
async function share(title, url) {
	if (navigator.share) await navigator.share({ title, url }).catch(() => {});
	else {
		await copy(url, $('share'), words.copied);
		write($('said'), words.copied);
	}
}
