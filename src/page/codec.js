// The choice of the stream for the browser's own player. A pure module.

// Returns the best stream of those that the server has: the least data first. `canPlay` is the element's `canPlayType`.
export function bestCodec(offered, canPlay, { userAgent = '', maxTouchPoints = 0 } = {}) {
	// What an iPhone says of Ogg is not to be relied on; an iPad calls itself a Macintosh.
	const ios = /iP(hone|ad|od)|Macintosh/.test(userAgent) && maxTouchPoints > 1;
	if (offered.includes('opus') && !ios && canPlay('audio/ogg; codecs="opus"') === 'probably') return 'opus';
	return offered.includes('mp3') && canPlay('audio/mpeg') ? 'mp3' : 'wav';
}
