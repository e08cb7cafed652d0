// QR codes (ISO/IEC 18004): bytes, error correction level M, up to version 10, which is 213 bytes.

/** Codewords of each version, the ones for correction in each block, and the number of blocks. */
const VERSIONS = [
  [26, 10, 1], [44, 16, 1], [70, 26, 1], [100, 18, 2], [134, 24, 2],
  [172, 16, 4], [196, 18, 4], [242, 22, 4], [292, 22, 5], [346, 26, 5],
];

/** The code of a text as rows of booleans, true for dark; null if it is too long. */
export function qr(text) {
  const bytes = new TextEncoder().encode(text);
  const version = VERSIONS.findIndex(([total, ec, blocks], i) => (
    bytes.length + (i < 9 ? 2 : 3) <= total - ec * blocks
  )) + 1;
  if (version === 0) return null;
  const bits = interleaved(bytes, version);
  const masks = Array.from({ length: 8 }, (_, mask) => draw(bits, version, mask));
  return masks.reduce((best, rows) => (penalty(rows) < penalty(best) ? rows : best));
}

/** An SVG path of the dark modules, each 1 by 1. */
export function path(rows) {
  return rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join('');
}

/** Data and correction, block by block interleaved, as bits. */
function interleaved(bytes, version) {
  const [total, ec, count] = VERSIONS[version - 1];
  const capacity = total - ec * count;
  const bits = [];
  const put = (value, width) => {
    for (let i = width - 1; i >= 0; i--) bits.push(value >> i & 1);
  };
  put(4, 4);
  put(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) put(byte, 8);
  put(0, Math.min(4, capacity * 8 - bits.length));
  while (bits.length % 8 > 0) bits.push(0);
  const data = [];
  for (let i = 0; i < bits.length; i += 8) data.push(bits.slice(i, i + 8).reduce((byte, bit) => byte * 2 + bit));
  for (let pad = 0xEC; data.length < capacity; pad ^= 0xEC ^ 0x11) data.push(pad);

  const short = Math.floor(capacity / count);
  const longer = capacity % count;
  const blocks = [];
  for (let i = 0, at = 0; i < count; i++) {
    const length = short + (i >= count - longer ? 1 : 0);
    blocks.push(data.slice(at, at += length));
  }
  const checks = blocks.map((block) => remainder(block, ec));
  const all = [];
  for (let i = 0; i <= short; i++) for (const block of blocks) if (i < block.length) all.push(block[i]);
  for (let i = 0; i < ec; i++) for (const check of checks) all.push(check[i]);
  return all.flatMap((byte) => [7, 6, 5, 4, 3, 2, 1, 0].map((i) => byte >> i & 1));
}

/** Multiplication in GF(256) modulo x⁸ + x⁴ + x³ + x² + 1. */
function times(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i--) {
    product = product << 1 ^ (product >> 7) * 0x11D;
    product ^= (b >> i & 1) * a;
  }
  return product;
}

/** The Reed-Solomon code of a block. */
function remainder(block, degree) {
  let divisor = [1];
  for (let i = 0, root = 1; i < degree; i++, root = times(root, 2)) {
    const next = [...divisor, 0];
    divisor.forEach((factor, j) => { next[j + 1] ^= times(factor, root); });
    divisor = next;
  }
  const rest = [...block, ...new Array(degree).fill(0)];
  for (let i = 0; i < block.length; i++) {
    const factor = rest[i];
    divisor.forEach((term, j) => { rest[i + j] ^= times(term, factor); });
  }
  return rest.slice(block.length);
}

const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => x * y % 2 + x * y % 3,
  (x, y) => (x * y % 2 + x * y % 3) % 2, (x, y) => ((x + y) % 2 + x * y % 3) % 2,
];

function draw(bits, version, mask) {
  const size = version * 4 + 17;
  const rows = Array.from({ length: size }, () => new Array(size).fill(null));
  const set = (x, y, dark) => {
    if (x >= 0 && y >= 0 && x < size && y < size) rows[y][x] = Boolean(dark);
  };
  // Finders with their margins, the timing lines, the alignment patterns.
  for (const [left, top] of [[0, 0], [size - 7, 0], [0, size - 7]]) {
    for (let y = -1; y <= 7; y++) {
      for (let x = -1; x <= 7; x++) {
        const ring = Math.max(Math.abs(x - 3), Math.abs(y - 3));
        set(left + x, top + y, ring !== 2 && ring !== 4);
      }
    }
  }
  for (let i = 8; i < size - 8; i++) {
    set(i, 6, i % 2 === 0);
    set(6, i, i % 2 === 0);
  }
  const last = size - 7;
  const centres = version === 1 ? [] : version < 7 ? [6, last] : [6, (6 + last) / 2, last];
  for (const cy of centres) {
    for (const cx of centres) {
      if (cx === 6 && cy === 6 || cx === 6 && cy === last || cx === last && cy === 6) continue;
      for (let y = -2; y <= 2; y++) for (let x = -2; x <= 2; x++) set(cx + x, cy + y, Math.max(Math.abs(x), Math.abs(y)) !== 1);
    }
  }
  // The format, twice (level M is 00), and the one module that is always dark.
  const format = (mask << 10 | bch(mask, 10, 0x537)) ^ 0x5412;
  for (let i = 0; i < 15; i++) {
    const bit = format >> i & 1;
    if (i < 6) set(8, i, bit);
    else if (i < 8) set(8, i + 1, bit);
    else if (i === 8) set(7, 8, bit);
    else set(14 - i, 8, bit);
    if (i < 8) set(size - 1 - i, 8, bit);
    else set(8, size - 15 + i, bit);
  }
  set(8, size - 8, true);
  if (version >= 7) {
    const info = version << 12 | bch(version, 12, 0x1F25);
    for (let i = 0; i < 18; i++) {
      set(size - 11 + i % 3, Math.floor(i / 3), info >> i & 1);
      set(Math.floor(i / 3), size - 11 + i % 3, info >> i & 1);
    }
  }
  // The data in pairs of columns from the right, up and down in turn.
  let at = 0;
  for (let right = size - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right = 5;
    for (let i = 0; i < size; i++) {
      const y = up ? size - 1 - i : i;
      for (const x of [right, right - 1]) {
        if (rows[y][x] === null) rows[y][x] = Boolean((bits[at++] ?? 0) ^ (MASKS[mask](x, y) === 0));
      }
    }
  }
  return rows;
}

function bch(value, degree, generator) {
  let rest = value << degree;
  for (let i = 31 - Math.clz32(rest); rest >> degree; i = 31 - Math.clz32(rest)) rest ^= generator << (i - degree);
  return rest;
}

/** How hard it is to read: long runs, blocks, what looks like a finder, too much of one colour. */
function penalty(rows) {
  let [sum, dark] = [0, 0];
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  for (const line of [...rows, ...columns]) {
    const text = line.map(Number).join('');
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
    sum += 40 * (text.match(/(?=00001011101|10111010000)/g) ?? []).length;
  }
  rows.forEach((row, y) => row.forEach((here, x) => {
    dark += here;
    if (x > 0 && y > 0 && here === row[x - 1] && here === rows[y - 1][x] && here === rows[y - 1][x - 1]) sum += 3;
  }));
  return sum + 10 * Math.floor(Math.abs(dark / rows.length ** 2 - 0.5) * 20);
}
