// The tools: what the pointer does on a plane, the drafts it draws, and the prompts that come of it.

import { $, clamp, el, icon, toast } from "./dom.js";

export const TOOLS = [
  { name: "point", key: "P", title: "Click: on the object, or on what is not" },
  { name: "scribble", key: "S", title: "Scribble: a stroke" },
  { name: "box", key: "B", title: "Box around the object; again for a 3-D box" },
  { name: "lasso", key: "L", title: "Lasso: a closed outline" },
  { name: "brush", key: "D", title: "Brush: draw the mask of this slice by hand" },
  { name: "eraser", key: "X", title: "Eraser: take from the mask of this slice by hand" },
  { name: "cross", key: "C", title: "Crosshair: look around without marking" },
  { name: "ruler", key: "K", title: "Ruler: measure in mm" },
];
const MAX_POINTS = 4000; // of a stroke; more say nothing new

export class Tools {
  constructor(viewer) {
    this.viewer = viewer;
    this.name = "point";
    this.positive = true;
    this.size = 5; // brush diameter in voxels of the slice
    this.solid = false; // boxes of three dimensions
    this.draft = null; // what is being drawn: {kind, tile, points | a, b, ...}
    this.rule = null; // the ruler's line
    this.hover = null; // {tile, x, y}
    this.space = false;
    this.buttons = {};
    this._makeBar();
  }

  // the bar at the left

  _makeBar() {
    const bar = $("#tools");
    bar.replaceChildren();
    for (const { name, key, title } of TOOLS) {
      if (name === "cross") bar.append(el("hr"));
      this.buttons[name] = el(
        "button",
        { class: "icon-button", title: `${title} (${key})`, "aria-label": title, "data-tool": name, onclick: () => this.choose(name) },
        icon(name), el("span", {}, key),
      );
      bar.append(this.buttons[name]);
    }
    this.signButton = el("button", { class: "icon-button sign", onclick: () => this.toggleSign() });
    this.solidButton = el("button", { class: "icon-button size", title: "Boxes in two or three dimensions (B again)", onclick: () => this.toggleSolid() });
    this.sizeLabel = el("div", { class: "size", title: "Brush size: [ and ]" });
    bar.append(el("hr"), this.signButton, this.solidButton, this.sizeLabel);
    this._showBar();
  }

  _showBar() {
    for (const [name, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", String(name === this.name));
    const text = this.positive ? "Marking the object" : "Marking what is not the object";
    this.signButton.className = `icon-button sign ${this.positive ? "plus" : "minus"}`;
    this.signButton.textContent = this.positive ? "+" : "−";
    this.signButton.title = `${text} (T). Shift, or the right button, does the opposite for once`;
    this.signButton.setAttribute("aria-label", text);
    this.signButton.hidden = !["point", "scribble", "box", "lasso"].includes(this.name);
    this.solidButton.hidden = this.name !== "box";
    this.solidButton.textContent = this.solid ? "3-D" : "2-D";
    this.sizeLabel.hidden = !["brush", "eraser"].includes(this.name);
    this.sizeLabel.textContent = `⌀ ${this.size}`;
    for (const tile of this.viewer.tiles || []) tile.overlay.style.cursor = this.name === "brush" || this.name === "eraser" ? "none" : "crosshair";
  }

  choose(name) {
    if (name === "box" && this.name === "box") this.toggleSolid();
    this.cancelDraft();
    this.name = name;
    this._showBar();
    this.viewer.redrawOverlays();
  }

  toggleSign() {
    this.positive = !this.positive;
    this._showBar();
  }

  toggleSolid() {
    this.solid = !this.solid;
    this.cancelDraft();
    this._showBar();
  }

  resizeBrush(by) {
    this.size = clamp(this.size + by * (this.size >= 20 ? 4 : this.size >= 8 ? 2 : 1), 1, 200);
    this._showBar();
    this.viewer.redrawOverlays();
  }

  cancelDraft() {
    const had = this.draft !== null;
    if (this.draft?.kind === "paint") this.viewer.reloadSlice(this.draft);
    this.draft = null;
    this.viewer.showPending();
    this.viewer.redrawOverlays();
    return had;
  }

  dropRule() {
    this.rule = null;
    this.viewer.redrawOverlays();
  }

  // the pointer

  attach(tile) {
    const canvas = tile.overlay;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this._down(tile, event, ...at(event)));
    canvas.addEventListener("pointermove", (event) => this._move(tile, event, ...at(event)));
    canvas.addEventListener("pointerup", (event) => this._up(tile, event, ...at(event)));
    canvas.addEventListener("pointercancel", () => { this.drag = null; this.cancelDraft(); });
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      tile.invalidate("overlay");
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [x, y] = at(event);
      if (event.ctrlKey || event.metaKey) {
        tile.zoomAt(Math.exp(-event.deltaY * 0.0015), x, y);
        return;
      }
      this.wheel = (this.wheel || 0) + event.deltaY;
      const step = event.deltaMode === 0 ? 40 : 1;
      const whole = Math.trunc(this.wheel / step) || (Math.abs(event.deltaY) >= 100 ? Math.sign(event.deltaY) : 0);
      if (!whole) return;
      this.wheel = 0;
      this.viewer.scroll(tile, clamp(whole, -3, 3) > 0 ? 1 : -1);
    }, { passive: false });
  }

  _down(tile, event, x, y) {
    if (this.drag) return;
    event.preventDefault();
    tile.overlay.focus({ preventScroll: true });
    tile.overlay.setPointerCapture(event.pointerId);
    const drag = { tile, x, y, startX: x, startY: y, button: event.button, mode: "tool", moved: false };
    if (event.button === 1 || (event.button === 0 && this.space)) drag.mode = "pan";
    else if (event.button === 2) drag.mode = "window";
    drag.window = [...this.viewer.volume.window];
    this.drag = drag;
    if (drag.mode !== "tool") return;
    const point = tile.voxelAt(x, y);
    if (event.altKey && point) {
      this.viewer.pickLabel(point);
      drag.mode = "none";
      return;
    }
    this._begin(tile, event, point, x, y);
  }

  _begin(tile, event, point, x, y) {
    const positive = event.shiftKey ? !this.positive : this.positive;
    if (this.name === "cross") {
      if (point) this.viewer.moveCross(point);
      return;
    }
    if (this.name === "ruler") {
      this.rule = { tile, index: tile.index, a: tile.toPicture(x, y), b: tile.toPicture(x, y) };
      return;
    }
    if (this.name === "box" && this.draft?.kind === "box3" && this._grab(tile, x, y)) return;
    if (!point) return;
    if (this.name !== "point" && !this.viewer.mayPrompt()) {
      this.drag.mode = "none";
      return;
    }
    if (this.name === "scribble" || this.name === "lasso") {
      this.draft = { kind: this.name, tile, index: tile.index, positive, points: [point] };
    } else if (this.name === "box") {
      this.draft = { kind: "box", tile, index: tile.index, positive, a: point, b: point };
    } else if (this.name === "brush" || this.name === "eraser") {
      const erase = (this.name === "eraser") !== (event.ctrlKey || event.metaKey || event.shiftKey);
      this.draft = { kind: "paint", tile, index: tile.index, erase, last: tile.toPicture(x, y), touched: false, points: [] };
      this._paint(tile, x, y);
    }
  }

  _move(tile, event, x, y) {
    this.hover = { tile, x, y };
    this.viewer.schedule();
    const drag = this.drag;
    if (!drag) {
      const point = tile.voxelAt(x, y);
      if (event.shiftKey && point && !event.buttons) this.viewer.moveCross(point);
      if (["brush", "eraser"].includes(this.name) || this.draft) tile.invalidate("overlay");
      return;
    }
    const [dx, dy] = [x - drag.x, y - drag.y];
    drag.x = x;
    drag.y = y;
    drag.moved ||= Math.hypot(x - drag.startX, y - drag.startY) > 3;
    if (drag.mode === "pan") tile.pan(dx, dy);
    else if (drag.mode === "window" && drag.moved) this._dragWindow(drag);
    else if (drag.mode === "tool") {
      // every pointer position since the last frame, for smooth strokes
      const box = tile.overlay.getBoundingClientRect();
      const events = event.getCoalescedEvents?.() || [];
      for (const one of events.length ? events : [event]) this._drawTo(drag.tile, one.clientX - box.left, one.clientY - box.top);
    } else if (drag.mode === "grab") this._dragSide(drag, x, y);
  }

  _drawTo(tile, x, y) {
    const point = tile.voxelAt(x, y, true);
    const draft = this.draft;
    if (this.name === "cross") this.viewer.moveCross(point);
    else if (this.name === "ruler" && this.rule) this.rule.b = tile.toPicture(x, y);
    else if (!draft) return;
    else if (draft.kind === "scribble" || draft.kind === "lasso") {
      const last = draft.points[draft.points.length - 1];
      if (point.some((p, i) => p !== last[i]) && draft.points.length < MAX_POINTS) draft.points.push(point);
    } else if (draft.kind === "box") draft.b = point;
    else if (draft.kind === "paint") this._paint(tile, x, y);
    tile.invalidate("overlay");
  }

  _up(tile, event, x, y) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || event.button !== drag.button) return;
    if (drag.mode === "window") {
      if (!drag.moved && this.name === "point") this._click(drag.tile, x, y, !this.positive);
      else if (drag.moved) this.viewer.keepWindow();
      return;
    }
    if (drag.mode === "grab") {
      this.viewer.showPending();
      return;
    }
    if (drag.mode !== "tool") return;
    if (this.name === "point") {
      const positive = event.shiftKey ? !this.positive : this.positive;
      if (!drag.moved || Math.hypot(x - drag.startX, y - drag.startY) < 6) this._click(drag.tile, x, y, positive);
      return;
    }
    const draft = this.draft;
    if (!draft || draft.kind === "box3") return;
    if (draft.kind === "paint") this._paintDone(draft);
    else if (draft.kind === "scribble") this._send(draft, { type: "scribble", points: draft.points, positive: draft.positive });
    else if (draft.kind === "lasso") this._lasso(draft);
    else if (draft.kind === "box") this._box(draft);
  }

  _dragWindow(drag) {
    const [low, high] = drag.window;
    const width = high - low;
    const dx = drag.x - drag.startX;
    const dy = drag.y - drag.startY;
    const wide = width * Math.exp(dx / 250);
    const level = (low + high) / 2 + (dy * width) / 350;
    this.viewer.setWindow(level - wide / 2, level + wide / 2);
  }

  // prompts

  _click(tile, x, y, positive) {
    const point = tile.voxelAt(x, y);
    if (!point || !this.viewer.mayPrompt()) return;
    this.viewer.moveCross(point, { keep: tile });
    this.viewer.prompt({ type: "click", point, positive }, tile);
  }

  _send(draft, prompt) {
    this.draft = null;
    this.viewer.prompt(prompt, draft.tile);
    draft.tile.invalidate("overlay");
  }

  _lasso(draft) {
    const different = new Set(draft.points.map(String));
    if (different.size < 3) {
      this.draft = null;
      draft.tile.invalidate("overlay");
      toast("A lasso is a closed outline: hold the button and draw around the object.");
      return;
    }
    this._send(draft, { type: "lasso", points: draft.points, positive: draft.positive });
  }

  _box(draft) {
    const lo = draft.a.map((p, i) => Math.min(p, draft.b[i]));
    const hi = draft.a.map((p, i) => Math.max(p, draft.b[i]));
    const { plane } = draft.tile;
    if (lo[plane.across] === hi[plane.across] || lo[plane.down] === hi[plane.down]) {
      this.draft = null;
      draft.tile.invalidate("overlay");
      toast("Hold the button and drag from one corner of the box to the other.");
      return;
    }
    if (!draft.positive) {
      const corners = [[lo, lo], [hi, lo], [hi, hi], [lo, hi]].map(([a, d]) => {
        const point = [...lo];
        point[plane.across] = a[plane.across];
        point[plane.down] = d[plane.down];
        return point;
      });
      this._send(draft, { type: "lasso", points: corners, positive: false });
      return;
    }
    if (!this.solid) {
      this._send(draft, { type: "box", lo, hi });
      return;
    }
    // as deep as it is wide, to be adjusted in the other planes
    const { spacing, shape } = this.viewer.volume.meta;
    const mm = Math.min((hi[plane.across] - lo[plane.across]) * spacing[plane.across], (hi[plane.down] - lo[plane.down]) * spacing[plane.down]);
    const half = Math.max(1, Math.round(mm / 2 / spacing[plane.axis]));
    lo[plane.axis] = clamp(draft.index - half, 0, shape[plane.axis] - 1);
    hi[plane.axis] = clamp(draft.index + half, 0, shape[plane.axis] - 1);
    this.draft = { kind: "box3", lo, hi };
    this.viewer.showPending();
    this.viewer.redrawOverlays();
  }

  /** Enter: use the 3-D box that was drawn. */
  applyBox() {
    if (this.draft?.kind !== "box3") return false;
    const { lo, hi } = this.draft;
    this.draft = null;
    this.viewer.showPending();
    this.viewer.prompt({ type: "box", lo, hi });
    this.viewer.redrawOverlays();
    return true;
  }

  _corners(tile, { lo, hi }) {
    const a = tile.plane.pixel(lo);
    const b = tile.plane.pixel(hi);
    const [x0, y0] = tile.toScreen(Math.min(a[0], b[0]) - 0.5, Math.min(a[1], b[1]) - 0.5);
    const [x1, y1] = tile.toScreen(Math.max(a[0], b[0]) + 0.5, Math.max(a[1], b[1]) + 0.5);
    return [x0, y0, x1, y1];
  }

  /** Take hold of sides of the 3-D box near the pointer. */
  _grab(tile, x, y) {
    const [x0, y0, x1, y1] = this._corners(tile, this.draft);
    const near = 8;
    if (x < x0 - near || x > x1 + near || y < y0 - near || y > y1 + near) return false;
    const sides = { left: Math.abs(x - x0) < near, right: Math.abs(x - x1) < near, top: Math.abs(y - y0) < near, bottom: Math.abs(y - y1) < near };
    if (!Object.values(sides).some(Boolean)) return false;
    this.drag.mode = "grab";
    this.drag.sides = sides;
    return true;
  }

  _dragSide(drag, x, y) {
    const { plane } = drag.tile;
    const point = drag.tile.voxelAt(x, y, true);
    const set = (axis, flip, atStart) => {
      const { lo, hi } = this.draft;
      if (atStart !== flip) lo[axis] = Math.min(point[axis], hi[axis]);
      else hi[axis] = Math.max(point[axis], lo[axis]);
    };
    if (drag.sides.left) set(plane.across, plane.flip_across, true);
    else if (drag.sides.right) set(plane.across, plane.flip_across, false);
    if (drag.sides.top) set(plane.down, plane.flip_down, true);
    else if (drag.sides.bottom) set(plane.down, plane.flip_down, false);
    this.viewer.redrawOverlays();
  }

  // brush and eraser

  /** Paint from the last position to this one. On slices of the case the mask itself changes; elsewhere it is a stroke. */
  _paint(tile, x, y) {
    const { draft, viewer } = this;
    const { plane } = tile;
    const volume = viewer.volume;
    const [u1, v1] = tile.toPicture(x, y);
    const [u0, v0] = draft.last;
    draft.last = [u1, v1];
    const finest = Math.min(...plane.mm);
    const radius = (this.size / 2) * finest;
    const [rx, ry] = [radius / plane.mm[0], radius / plane.mm[1]];
    const steps = Math.max(1, Math.ceil(Math.hypot((u1 - u0) / rx, (v1 - v0) / ry) * 2));
    const label = viewer.activeLabelOrNew();
    const locked = viewer.lockedLabels();
    for (let s = 0; s <= steps; s++) {
      const u = u0 + ((u1 - u0) * s) / steps;
      const v = v0 + ((v1 - v0) * s) / steps;
      const q1 = Math.min(plane.width - 1, Math.floor(u + rx));
      const r1 = Math.min(plane.height - 1, Math.floor(v + ry));
      for (let r = Math.max(0, Math.floor(v - ry)); r <= r1; r++)
        for (let q = Math.max(0, Math.floor(u - rx)); q <= q1; q++) {
          const centre = this.size <= 1 ? 0 : ((q + 0.5 - u) / rx) ** 2 + ((r + 0.5 - v) / ry) ** 2;
          if (centre > 1 || (this.size <= 1 && (q !== Math.floor(u) || r !== Math.floor(v)))) continue;
          const point = plane.voxel(q, r, draft.index);
          const at = volume.offset(point);
          const now = volume.labels[at];
          if (draft.erase ? now !== label : now === label || locked.has(now)) {
            if (!tile.isMain) draft.points.push(at);
            continue;
          }
          volume.labels[at] = draft.erase ? 0 : label;
          draft.points.push(at);
          draft.touched = true;
        }
    }
    viewer.labelsChanged();
  }

  _paintDone(draft) {
    this.draft = null;
    const { viewer } = this;
    if (draft.tile.isMain) {
      if (draft.touched) viewer.sendPainted(draft.index, draft.tile);
      return;
    }
    const voxels = new Set(draft.points);
    if (!voxels.size) return;
    toast(`On this plane the brush is taken as a wide stroke. To draw a mask exactly, use ${viewer.main.title} slices.`);
    viewer.prompt({ type: "scribble", mask: runsOfVoxels(viewer.volume, voxels), positive: !draft.erase }, draft.tile);
  }

  // drafts on top of a plane

  draw(tile, g) {
    const { draft } = this;
    if (draft && (draft.tile === tile || draft.kind === "box3") && draft.kind !== "paint") {
      g.strokeStyle = draft.positive === false ? "#ff7b6b" : "#5fe08f";
      g.lineWidth = 2;
      if (draft.kind === "box3") {
        const inside = tile.index >= draft.lo[tile.plane.axis] && tile.index <= draft.hi[tile.plane.axis];
        const [x0, y0, x1, y1] = this._corners(tile, draft);
        g.globalAlpha = inside ? 1 : 0.45;
        g.setLineDash(inside ? [] : [5, 4]);
        g.strokeRect(x0, y0, x1 - x0, y1 - y0);
        g.setLineDash([]);
        g.fillStyle = "#fff";
        const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
        for (const [hx, hy] of [[x0, y0], [x1, y0], [x0, y1], [x1, y1], [mx, y0], [mx, y1], [x0, my], [x1, my]]) g.fillRect(hx - 3, hy - 3, 6, 6);
        g.globalAlpha = 1;
      } else if (draft.kind === "box") {
        const [x0, y0, x1, y1] = this._corners(tile, { lo: draft.a, hi: draft.b });
        g.strokeRect(x0, y0, x1 - x0, y1 - y0);
      } else tile.stroke(g, draft.points, draft.kind === "lasso");
    }
    if (this.rule && this.rule.tile === tile && this.rule.index === tile.index) this._drawRule(tile, g);
    if (["brush", "eraser"].includes(this.name) && this.hover?.tile === tile) {
      const [sx] = tile.scale;
      const radius = ((this.size / 2) * Math.min(...tile.plane.mm) * sx) / tile.plane.mm[0];
      g.beginPath();
      g.arc(this.hover.x, this.hover.y, Math.max(radius, 2), 0, 7);
      g.lineWidth = 3;
      g.strokeStyle = "#0009";
      g.stroke();
      g.lineWidth = 1.2;
      g.strokeStyle = this.name === "eraser" ? "#ff9a8a" : "#fff";
      g.stroke();
    }
  }

  get ruleMm() {
    if (!this.rule) return null;
    const { a, b, tile } = this.rule;
    return Math.hypot((b[0] - a[0]) * tile.plane.mm[0], (b[1] - a[1]) * tile.plane.mm[1]);
  }

  _drawRule(tile, g) {
    const [x0, y0] = tile.toScreen(...this.rule.a);
    const [x1, y1] = tile.toScreen(...this.rule.b);
    for (const [color, width] of [["#000c", 4], ["#ffe27a", 1.5]]) {
      g.strokeStyle = color;
      g.lineWidth = width;
      g.beginPath();
      g.moveTo(x0, y0);
      g.lineTo(x1, y1);
      g.stroke();
    }
    for (const [x, y] of [[x0, y0], [x1, y1]]) tile._dot(g, x, y, "#ffe27a");
    const text = this.viewer.volume.lengthText(this.ruleMm);
    g.font = "600 12px system-ui, sans-serif";
    g.textAlign = "left";
    g.textBaseline = "bottom";
    g.lineWidth = 3;
    g.strokeStyle = "#000c";
    g.strokeText(text, x1 + 8, y1 - 4);
    g.fillStyle = "#ffe27a";
    g.fillText(text, x1 + 8, y1 - 4);
  }
}

/** Run lengths (first run is of zeros) of a set of voxel offsets in the whole volume. */
function runsOfVoxels(volume, voxels) {
  const sorted = Float64Array.from(voxels).sort();
  const runs = [];
  let end = 0;
  let from = 0;
  for (let i = 0; i < sorted.length; i++) {
    const at = sorted[i];
    if (i && at === end) { end++; continue; }
    if (i) runs.push(end - from);
    runs.push(at - end);
    from = at;
    end = at + 1;
  }
  runs.push(end - from);
  if (end < volume.size) runs.push(volume.size - end);
  return { shape: volume.shape, runs };
}

/** Run lengths of the voxels of a slice (along an array axis) that have a label. */
export function runsOfSlice(volume, axis, index, label) {
  const [rows, columns] = [0, 1, 2].filter((other) => other !== axis);
  const runs = [];
  let value = false;
  let length = 0;
  for (let r = 0; r < volume.shape[rows]; r++) {
    let at = index * volume.strides[axis] + r * volume.strides[rows];
    for (let c = 0; c < volume.shape[columns]; c++, at += volume.strides[columns]) {
      const here = volume.labels[at] === label;
      if (here !== value) { runs.push(length); length = 0; value = here; }
      length++;
    }
  }
  runs.push(length);
  return { shape: [volume.shape[rows], volume.shape[columns]], runs };
}
