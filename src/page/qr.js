// QR codes (ISO/IEC 18004) of up to 106 bytes: level M, versions 1 to 6, the first mask.

// For each version: codewords, correction codewords per block, blocks.
const VERSIONS = [[26, 10, 1], [44, 16, 1], [70, 26, 1], [100, 18, 2], [134, 24, 2], [172, 16, 4]];
// The format of level M and the first mask, with its own correction.
const FORMAT = 0x5412;

// Rows of booleans, true for dark; null if too long.
export function qr(text) {
	const bytes = new TextEncoder().encode(text);
	const version = VERSIONS.findIndex(([total, ec, blocks]) => bytes.length + 2 <= total - ec * blocks) + 1;
	return version === 0 ? null : draw(codewords(bytes, ...VERSIONS[version - 1]), version);
}

function codewords(bytes, total, ec, count) {
	// Four bits for byte mode and eight for the length precede the bytes, so that each byte is split.
	const halves = [0x4, ...[bytes.length, ...bytes].flatMap((byte) => [byte >> 4, byte & 15]), 0];
	const data = Array.from({ length: halves.length / 2 }, (_, i) => halves[2 * i] << 4 | halves[2 * i + 1]);
	const size = (total - ec * count) / count;
	for (let pad = 0xEC; data.length < size * count; pad ^= 0xEC ^ 0x11) data.push(pad);
	const blocks = Array.from({ length: count }, (_, i) => data.slice(i * size, (i + 1) * size));
	const interleaved = (rows) => rows[0].flatMap((_, i) => rows.map((row) => row[i]));
	return [...interleaved(blocks), ...interleaved(blocks.map((block) => correction(block, ec)))];
}

// Multiplication in GF(256) modulo 0x11D.
function times(a, b) {
	let product = 0;
	for (let i = 7; i >= 0; i--) product = product << 1 ^ (product >> 7) * 0x11D ^ (b >> i & 1) * a;
	return product;
}

function correction(block, degree) {
	let divisor = [1];
	for (let i = 0, root = 1; i < degree; i++, root = times(root, 2)) {
		divisor = [...divisor, 0].map((factor, j) => factor ^ times(divisor[j - 1] ?? 0, root));
	}
	const rest = [...block, ...new Array(degree).fill(0)];
	block.forEach((_, i) => {
		const factor = rest[i];
		divisor.forEach((term, j) => { rest[i + j] ^= times(term, factor); });
	});
	return rest.slice(block.length);
}

function draw(words, version) {
	const size = version * 4 + 17;
	const rows = Array.from({ length: size }, () => new Array(size).fill(null));
	const set = (x, y, dark) => {
		if (rows[y]?.[x] !== undefined) rows[y][x] = Boolean(dark);
	};
	// The finders with margins and the alignment pattern, nested squares; the timing lines.
	const square = (cx, cy, reach, light) => {
		for (let y = -reach; y <= reach; y++) {
			for (let x = -reach; x <= reach; x++) set(cx + x, cy + y, !light.includes(Math.max(Math.abs(x), Math.abs(y))));
		}
	};
	for (let i = 8; i < size - 8; i++) {
		set(i, 6, i % 2 === 0);
		set(6, i, i % 2 === 0);
	}
	for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, [2, 4]);
	if (version > 1) square(size - 7, size - 7, 2, [1]);
	// The format, twice, and the one module that is always dark.
	for (let i = 0; i < 15; i++) {
		const [bit, low] = [FORMAT >> i & 1, i < 8];
		set(low ? 8 : 14 - i + (i === 8), low ? i + (i > 5) : 8, bit);
		set(low ? size - 1 - i : 8, low ? 8 : size - 15 + i, bit);
	}
	set(8, size - 8, true);
	// The data in pairs of columns from the right, up and down in turn.
	let at = 0;
	for (let right = size - 1, up = true; right > 0; right -= 2, up = !up) {
		if (right === 6) right = 5;
		for (let i = 0; i < size; i++) {
			const y = up ? size - 1 - i : i;
			for (const x of [right, right - 1]) rows[y][x] ??= Boolean(words[at >> 3] >> 7 - at++ % 8 & 1 ^ (x + y) % 2 === 0);
		}
	}
	return rows;
}
