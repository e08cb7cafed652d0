// The server's addresses as the page requests them: with the token that the page was opened with, and without a user and a
// password, which fetch() refuses in an address. The browser sends these anyway: it has them from the page's own request.

// A path relative to the page, or to `base`, as an absolute address.
export function at(path, base = location) {
	const url = new URL(path, base);
	url.username = url.password = '';
	const token = new URLSearchParams(location.search).get('token');
	if (token) url.searchParams.set('token', token);
	return url.href;
}
