// The timeline on the page: its picture, and the handles that a pointer or the keyboard moves.

import { $, attribute, fill, label, make, mark, set, write } from './dom.js';
import { markEvery } from './timeline.js';
import { about, clock, exactly, words } from './words.js';

const FLOOR = -60;
// In pixels: a bar with its gap, and the reach of a handle.
const [BAR, REACH] = [3, 16];
const COLOURS = { bar: '#6f6c80', chosen: '#dedbe8', heard: '#ff8a4c', shade: '#ffffff0d', line: '#ffffff2e' };
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };

export class TimelineView {
	#timeline;
	#act;
	#field = $('timeline');
	#pen = this.#field.firstElementChild.getContext('2d');
	#scale = 1;
	#handles = {};
	#drag = null;
	#at = 0;
	#heard = null;

	// `act.seek(seconds)` is called for a new position before now, `act.selected()` after a change of the selection.
	constructor(timeline, act) {
		[this.#timeline, this.#act] = [timeline, act];
		const field = this.#field;
		for (const [name, title] of Object.entries({ from: words.from, to: words.to, playhead: words.playhead })) {
			const handle = make('div', { className: `handle ${name}`, tabIndex: 0, role: 'slider', onkeydown: (event) => this.#key(name, event) });
			label(handle, title);
			field.append(this.#handles[name] = handle);
		}
		field.onpointerdown = (event) => this.#grab(event);
		field.onpointermove = (event) => this.#move(event);
		field.onpointerup = () => {
			if (this.#drag === 'playhead') act.seek(timeline.ago(this.#at));
			this.#drag = null;
		};
		field.onpointercancel = () => { this.#drag = null; };
		field.onpointerleave = () => write($('pointed'), '');
		new ResizeObserver(() => {
			const { canvas } = this.#pen;
			this.#scale = Math.min(2, devicePixelRatio);
			[canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.round(size * this.#scale));
			this.show(this.#heard);
		}).observe(field);
	}

	// What is heard is `delay` seconds before now; null for nothing.
	show(delay) {
		this.#heard = delay;
		const [timeline, pen, scale] = [this.#timeline, this.#pen, this.#scale];
		const { width, height } = pen.canvas;
		const { selected, history } = timeline;
		const heard = this.#drag === 'playhead' ? this.#at : delay === null ? null : timeline.frameAgo(delay);
		const x = (frame) => timeline.place(frame) * width;
		const fillRect = (colour, ...rectangle) => {
			pen.fillStyle = COLOURS[colour];
			pen.fillRect(...rectangle);
		};
		pen.clearRect(0, 0, width, height);
		if (selected) {
			const [from, length] = [x(selected.from), x(selected.to) - x(selected.from)];
			fillRect('shade', from, 0, length, height);
			fillRect('chosen', from, height - 2 * scale, length, 2 * scale);
		}
		const middle = Math.round(height / 2);
		fillRect('line', 0, middle - scale / 2, width, scale);
		for (const { from, to, peak } of timeline.bars(width / scale / BAR)) {
			if (peak <= -200) continue;
			const half = Math.max(scale / 2, Math.max(0, 1 - peak / FLOOR) ** 2 * (height / 2 - 5 * scale));
			const chosen = selected && from < selected.to && to > selected.from;
			fillRect(chosen ? 'chosen' : 'bar', x(from), middle - half, Math.max(scale, x(to) - x(from) - scale), 2 * half);
		}
		if (heard !== null) fillRect('heard', Math.min(width - 2 * scale, Math.max(0, x(heard) - scale)), 0, 2 * scale, height);
		const frames = { ...selected, playhead: heard ?? timeline.edge };
		for (const [name, handle] of Object.entries(this.#handles)) {
			set(handle, 'hidden', frames[name] === undefined || !history);
			if (handle.hidden) continue;
			const seconds = timeline.ago(frames[name]);
			set(handle.style, 'left', `${(100 * timeline.place(frames[name])).toFixed(2)}%`);
			attribute(handle, 'aria-valuemin', -Math.round(history));
			attribute(handle, 'aria-valuemax', 0);
			attribute(handle, 'aria-valuenow', -Math.round(seconds) || 0);
			attribute(handle, 'aria-valuetext', seconds < 1 ? words.now : words.ago(about(seconds)));
		}
		const every = markEvery(history, width / scale / 90);
		fill($('timemarks'), `${history} ${every}`, () => Array.from({ length: history ? Math.floor(history / every) + 1 : 0 }, (_, i) => {
			const s = i * every;
			return mark(s ? `−${exactly(s)}` : words.now, 1 - s / history);
		}));
	}

	#grab(event) {
		const timeline = this.#timeline;
		if (event.button || !timeline.history) return;
		const { left, width, bottom } = this.#field.getBoundingClientRect();
		const { selected } = timeline;
		// The handles of the selection are at the lower edge.
		const low = selected && bottom - event.clientY < 2 * REACH;
		const near = (frame) => low && Math.abs(left + timeline.place(frame) * width - event.clientX) < REACH;
		this.#drag = near(selected?.from) ? 'from' : near(selected?.to) ? 'to' : 'playhead';
		this.#field.setPointerCapture(event.pointerId);
		this.#handles[this.#drag].focus({ preventScroll: true });
		event.preventDefault();
		this.#move(event);
	}

	#move({ clientX }) {
		const timeline = this.#timeline;
		const { left, width } = this.#field.getBoundingClientRect();
		this.#at = timeline.frameAt((clientX - left) / width);
		const seconds = timeline.ago(this.#at);
		write($('pointed'), timeline.history ? `${clock(Date.now() - 1000 * seconds)} · ${words.ago(exactly(seconds))}` : '');
		this.#moved(this.#drag, this.#at);
	}

	#moved(handle, frame) {
		const { from, to } = this.#timeline.selected ?? {};
		if (handle === 'from') this.#timeline.select(Math.min(frame, to - 1), to);
		if (handle === 'to') this.#timeline.select(from, Math.max(frame, from + 1));
		if (handle && handle !== 'playhead') this.#act.selected();
		if (handle) this.show(this.#heard);
	}

	#key(name, event) {
		const step = STEPS[event.key];
		if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
		event.preventDefault();
		event.stopPropagation();
		const timeline = this.#timeline;
		if (!timeline.selected) return;
		const frame = { ...timeline.selected, playhead: timeline.frameAgo(this.#heard ?? 0) }[name];
		const to = Math.min(timeline.edge, Math.max(timeline.start, frame + step * timeline.rate));
		if (name === 'playhead') this.#act.seek(timeline.ago(to));
		else this.#moved(name, to);
	}
}
