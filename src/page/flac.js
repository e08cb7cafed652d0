// A decoder of FLAC (RFC 9639) as this server makes it, for streams that the network cannot carry otherwise: constant, verbatim
// and fixed subframes, 16 and 24 bits.

import { joined } from './sound.js';

const MARK = 0x664C6143;
// The size of the header of a metadata block. The first block is STREAMINFO.
const BLOCK_HEADER = 4;
// Values of a frame header's codes; 0: see below, or STREAMINFO.
const BLOCK = (code) => (code === 1 ? 192 : code < 6 ? 576 << code - 2 : 256 << code - 8);
const BITS = [0, 8, 12, 0, 16, 20, 24, 32];
// Channel assignments of stereo.
const [LEFT_SIDE, SIDE_RIGHT, MID_SIDE] = [8, 9, 10];
// The polynomials of the fixed predictors, by the order.
const FIXED = [[], [1], [2, -1], [3, -3, 1], [4, -6, 4, -1]];
// Bits that can be read at once: 32, less what is used of the first byte.
const AT_ONCE = 25;
// Thrown when a frame has not come as a whole.
const INCOMPLETE = {};

// An incremental FLAC reader.
export class FlacReader {
	// { rate, channels, bits } after the header.
	format = null;
	#data = new Uint8Array(0);
	// The next bit.
	#at = 0;

	// The complete frames so far, a Float32Array for each channel; or null.
	push(bytes) {
		this.#data = joined(this.#data, bytes);
		if (!this.format && !this.#header()) return null;
		const blocks = [];
		let used = this.#at = 0;
		try {
			while (this.#data.length > used) {
				blocks.push(this.#frame());
				used = this.#at >> 3;
			}
		} catch (error) {
			if (error !== INCOMPLETE) throw error;
		}
		this.#data = this.#data.slice(used);
		if (blocks.length === 0) return null;
		return blocks[0].map((_, c) => {
			const out = new Float32Array(blocks.reduce((sum, block) => sum + block[0].length, 0));
			let at = 0;
			for (const { [c]: samples } of blocks) {
				for (const sample of samples) out[at++] = sample / 2 ** (this.format.bits - 1);
			}
			return out;
		});
	}

	#header() {
		const view = new DataView(this.#data.buffer);
		let [at, last] = [4, false];
		while (!last) {
			if (view.byteLength < at + BLOCK_HEADER) return false;
			last = view.getUint8(at) > 0x7F;
			at += BLOCK_HEADER + (view.getUint32(at) & 0xFFFFFF);
		}
		if (view.byteLength < at) return false;
		if (view.getUint32(0) !== MARK) throw new Error('not FLAC');
		// Behind four sizes of blocks and frames: 20 bits of rate, 3 of channels, 5 of bits.
		const packed = view.getUint32(4 + BLOCK_HEADER + 10);
		this.format = { rate: packed >>> 12, channels: (packed >> 9 & 7) + 1, bits: (packed >> 4 & 31) + 1 };
		this.#data = this.#data.slice(at);
		return true;
	}

	// The next `count` bits as they are in front of the others of 32.
	#ahead() {
		const [data, at] = [this.#data, this.#at >> 3];
		return (data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]) << (this.#at & 7);
	}

	#skip(count) {
		this.#at += count;
		if (this.#at > this.#data.length * 8) throw INCOMPLETE;
	}

	#bits(count) {
		if (count === 0) return 0;
		const value = this.#ahead() >>> 32 - count;
		this.#skip(count);
		return value;
	}

	#signed(count) {
		const value = this.#ahead() >> 32 - count;
		this.#skip(count);
		return value;
	}

	// The number of zeros before a one.
	#zeros() {
		for (let zeros = 0; ; zeros += AT_ONCE) {
			const more = Math.clz32(this.#ahead());
			if (more < AT_ONCE) {
				this.#skip(more + 1);
				return zeros + more;
			}
			this.#skip(AT_ONCE);
		}
	}

	// The samples of each channel.
	#frame() {
		if (this.#bits(16) !== 0xFFF8) throw new Error('no FLAC frame');
		const [blockCode, rateCode, assignment, bitsCode] = [this.#bits(4), this.#bits(4), this.#bits(4), this.#bits(3)];
		this.#bits(1);
		// The frame's number, as in UTF-8.
		for (let more = Math.max(0, Math.clz32(~(this.#bits(8) << 24)) - 1); more > 0; more--) this.#bits(8);
		const length = blockCode === 6 ? this.#bits(8) + 1 : blockCode === 7 ? this.#bits(16) + 1 : BLOCK(blockCode);
		if (rateCode > 11) this.#bits(rateCode === 12 ? 8 : 16);
		// TCP has checksums: those of FLAC are not looked at.
		this.#bits(8);
		const bits = BITS[bitsCode] || this.format.bits;
		const side = { [LEFT_SIDE]: 1, [SIDE_RIGHT]: 0, [MID_SIDE]: 1 }[assignment];
		const planes = Array.from({ length: this.format.channels }, (_, c) => this.#subframe(length, bits + (c === side)));
		this.#skip((8 - this.#at % 8) % 8 + 16);
		if (side === undefined) return planes;
		const [a, b] = planes;
		for (let i = 0; i < length; i++) {
			if (assignment === LEFT_SIDE) b[i] = a[i] - b[i];
			else if (assignment === SIDE_RIGHT) a[i] += b[i];
			else {
				const double = a[i] * 2 + (b[i] & 1);
				[a[i], b[i]] = [double + b[i] >> 1, double - b[i] >> 1];
			}
		}
		return planes;
	}

	#subframe(length, bits) {
		this.#bits(1);
		const type = this.#bits(6);
		const wasted = this.#bits(1) ? this.#zeros() + 1 : 0;
		bits -= wasted;
		const out = new Int32Array(length);
		if (type === 0) {
			out.fill(this.#signed(bits));
		} else if (type === 1) {
			for (let i = 0; i < length; i++) out[i] = this.#signed(bits);
		} else if (type >= 8 && type < 8 + FIXED.length) {
			this.#predicted(out, type - 8, bits);
		} else throw new Error(`FLAC subframe ${type}`);
		if (wasted) out.forEach((sample, i) => { out[i] = sample << wasted; });
		return out;
	}

	#predicted(out, order, bits) {
		for (let i = 0; i < order; i++) out[i] = this.#signed(bits);
		// Rice codes: the parameter has 4 or 5 bits; all ones: plain numbers follow.
		const width = 4 + this.#bits(2);
		const partitions = 1 << this.#bits(4);
		for (let p = 0, i = order; p < partitions; p++) {
			const end = (p + 1) * out.length / partitions;
			const parameter = this.#bits(width);
			if (parameter === (1 << width) - 1) {
				const plain = this.#bits(5);
				for (; i < end; i++) out[i] = plain && this.#signed(plain);
				continue;
			}
			for (; i < end; i++) {
				const code = this.#zeros() * 2 ** parameter + this.#bits(parameter);
				out[i] = code >>> 1 ^ -(code & 1);
			}
		}
		const [p, q, r, s] = FIXED[order];
		for (let i = order; i < out.length; i++) {
			if (order > 0) out[i] += p * out[i - 1];
			if (order > 1) out[i] += q * out[i - 2];
			if (order > 2) out[i] += r * out[i - 3];
			if (order > 3) out[i] += s * out[i - 4];
		}
	}
}
