// The server's addresses: with the page's token, and without a user and a password, which fetch() refuses and the browser has from
// the page's own request.

// Of a path relative to the page, or to `base`.
export function at(path, base = location) {
	const url = new URL(path, base);
	url.username = url.password = '';
	const token = new URLSearchParams(location.search).get('token');
	if (token) url.searchParams.set('token', token);
	return url.href;
}
