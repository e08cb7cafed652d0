// Codecs of the streams. A pure module.

export const codecName = (codec) => (codec === 'opus' ? 'Opus' : codec.toUpperCase());

// The stream with the least data that the browser's own player surely plays. `canPlay` is its `canPlayType`.
export function bestCodec(offered, canPlay, { userAgent = '', maxTouchPoints = 0 } = {}) {
	// What an iPhone says of Ogg is not to be relied on; an iPad calls itself a Macintosh.
	const ios = /iP(hone|ad|od)|Macintosh/.test(userAgent) && maxTouchPoints > 1;
	if (offered.includes('opus') && !ios && canPlay('audio/ogg; codecs="opus"') === 'probably') return 'opus';
	return offered.includes('mp3') && canPlay('audio/mpeg') ? 'mp3' : 'wav';
}
