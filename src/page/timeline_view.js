// The timeline on the page: its picture, and the handles that a pointer or the keyboard moves.

import { $, attribute, fill, label, make, set, write } from './dom.js';
import { markEvery } from './timeline.js';
import { words } from './words.js';

const FLOOR = -60;
// Pixels of a bar with its gap, and of the reach of a handle.
const [BAR, REACH] = [3, 16];
const COLOURS = { bar: '#6f6c80', chosen: '#dedbe8', heard: '#ff8a4c', shade: '#ffffff0d', line: '#ffffff2e' };

export class TimelineView {
	#timeline;
	#act;
	#pen;
	// The handle that is being dragged, and the frame that it is at.
	#drag = null;
	#at = 0;
	#handles = {};
	#heard = null;
	// Width in CSS pixels, and the pixels of the canvas in each.
	#width = 0;
	#scale = 1;

	// `act.seek(seconds)` is called with the new position before now, `act.selected()` after a change of the selection.
	constructor(timeline, act) {
		[this.#timeline, this.#act] = [timeline, act];
		const field = $('timeline');
		this.#pen = field.firstElementChild.getContext('2d');
		for (const [name, title] of Object.entries({ from: words.from, to: words.to, playhead: words.playhead })) {
			const handle = make('div', { className: `handle ${name}`, tabIndex: 0, role: 'slider', onkeydown: (event) => this.#key(name, event) });
			label(handle, title);
			field.append(handle);
			this.#handles[name] = handle;
		}
		field.onpointerdown = (event) => this.#grab(event);
		field.onpointermove = (event) => this.#move(event);
		field.onpointerup = (event) => this.#drop(event);
		field.onpointercancel = () => { this.#drag = null; };
		new ResizeObserver(() => this.#fit()).observe(field);
	}

	// Shows what is heard: `delay` seconds before now, null for nothing.
	show(delay) {
		this.#heard = delay;
		this.draw();
	}

	draw() {
		const [timeline, pen] = [this.#timeline, this.#pen];
		if (!this.#width) return;
		const { width, height } = pen.canvas;
		const scale = this.#scale;
		const selected = timeline.selected;
		const heard = this.#drag === 'playhead' ? this.#at : this.#heard === null ? null : timeline.frameAgo(this.#heard);
		const x = (frame) => timeline.place(frame) * width;
		pen.clearRect(0, 0, width, height);
		if (selected) {
			pen.fillStyle = COLOURS.shade;
			pen.fillRect(x(selected.from), 0, x(selected.to) - x(selected.from), height);
			pen.fillStyle = COLOURS.chosen;
			pen.fillRect(x(selected.from), height - 2 * scale, x(selected.to) - x(selected.from), 2 * scale);
		}
		const middle = Math.round(height / 2);
		pen.fillStyle = COLOURS.line;
		pen.fillRect(0, middle - scale / 2, width, scale);
		for (const { from, to, peak } of timeline.bars(width / scale / BAR)) {
			if (peak <= -200) continue;
			const half = Math.max(scale / 2, Math.max(0, 1 - peak / FLOOR) ** 2 * (height / 2 - 5 * scale));
			const chosen = selected && from < selected.to && to > selected.from;
			pen.fillStyle = chosen ? COLOURS.chosen : COLOURS.bar;
			const left = x(from);
			pen.fillRect(left, middle - half, Math.max(scale, x(to) - left - scale), 2 * half);
		}
		if (heard !== null) {
			pen.fillStyle = COLOURS.heard;
			pen.fillRect(Math.min(width - 2 * scale, Math.max(0, x(heard) - scale)), 0, 2 * scale, height);
		}
		const frames = { from: selected?.from, to: selected?.to, playhead: heard ?? timeline.edge };
		for (const [name, handle] of Object.entries(this.#handles)) {
			set(handle, 'hidden', frames[name] === undefined || !timeline.history);
			if (handle.hidden) continue;
			const seconds = timeline.ago(frames[name]);
			set(handle.style, 'left', `${(100 * timeline.place(frames[name])).toFixed(2)}%`);
			attribute(handle, 'aria-valuemin', -Math.round(timeline.history));
			attribute(handle, 'aria-valuemax', 0);
			attribute(handle, 'aria-valuenow', -Math.round(seconds) || 0);
			attribute(handle, 'aria-valuetext', seconds < 0.05 ? words.now : words.secondsAgo(seconds));
		}
		this.#axis();
	}

	#axis() {
		const { history } = this.#timeline;
		const every = markEvery(history, this.#width / 90);
		const marks = history ? Array.from({ length: Math.floor(history / every) + 1 }, (_, i) => i * every) : [];
		fill($('timemarks'), `${history} ${every}`, () => marks.map((s) => {
			const mark = make('span', { textContent: s ? `−${s % 60 || s < 60 ? `${s} s` : s % 3600 ? `${s / 60} min` : `${s / 3600} h`}` : words.now });
			mark.style.left = `${100 - 100 * s / history}%`;
			return mark;
		}));
	}

	#fit() {
		const { canvas } = this.#pen;
		this.#width = canvas.clientWidth;
		this.#scale = Math.min(2, devicePixelRatio);
		[canvas.width, canvas.height] = [Math.round(this.#width * this.#scale), Math.round(canvas.clientHeight * this.#scale)];
		this.draw();
	}

	#frame({ clientX }) {
		const { left, width } = $('timeline').getBoundingClientRect();
		return this.#timeline.frameAt((clientX - left) / width);
	}

	#grab(event) {
		if (event.button || !this.#timeline.history) return;
		const { left, width, bottom } = $('timeline').getBoundingClientRect();
		const selected = this.#timeline.selected;
		// The handles of the selection are at the lower edge.
		const near = (frame) => Math.abs(left + this.#timeline.place(frame) * width - event.clientX) < REACH;
		const low = selected && bottom - event.clientY < 2 * REACH;
		this.#drag = low && near(selected.from) ? 'from' : low && near(selected.to) ? 'to' : 'playhead';
		this.#at = this.#frame(event);
		$('timeline').setPointerCapture(event.pointerId);
		this.#handles[this.#drag].focus({ preventScroll: true });
		event.preventDefault();
		this.#moved();
	}

	#move(event) {
		this.#say(event);
		if (!this.#drag) return;
		this.#at = this.#frame(event);
		this.#moved();
	}

	#moved() {
		if (this.#drag !== 'playhead') {
			const { from, to } = this.#timeline.selected ?? {};
			if (this.#drag === 'from') this.#timeline.select(Math.min(this.#at, to - 1), to);
			else this.#timeline.select(from, Math.max(this.#at, from + 1));
			this.#act.selected();
		}
		this.draw();
	}

	#drop(event) {
		const drag = this.#drag;
		this.#drag = null;
		if (drag === 'playhead') this.#act.seek(this.#timeline.ago(this.#frame(event)));
	}

	// The time under the pointer.
	#say(event) {
		const { history } = this.#timeline;
		const seconds = this.#timeline.ago(this.#frame(event));
		const time = new Date(Date.now() - 1000 * seconds).toLocaleTimeString();
		write($('pointed'), history ? `${time} · ${words.secondsAgo(seconds)}` : '');
	}

	#key(name, event) {
		const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity }[event.key];
		if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
		event.preventDefault();
		event.stopPropagation();
		const timeline = this.#timeline;
		const selected = timeline.selected;
		if (!selected) return;
		const frame = { from: selected.from, to: selected.to, playhead: timeline.frameAgo(this.#heard ?? 0) }[name];
		const to = Math.min(timeline.edge, Math.max(timeline.start, frame + step * timeline.rate));
		if (name === 'playhead') return this.#act.seek(timeline.ago(to));
		if (name === 'from') timeline.select(Math.min(to, selected.to - 1), selected.to);
		else timeline.select(selected.from, Math.max(to, selected.from + 1));
		this.#act.selected();
		this.draw();
	}
}
