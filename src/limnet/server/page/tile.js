// One plane on the screen: geometry (zoom, pan), drawing of slice, masks and everything on top, and its slice slider.

import { clamp, el, icon } from "./dom.js";
import { Plane } from "./volume.js";

export const PLANE_COLORS = { axial: "#ff6b6b", sagittal: "#ffd166", coronal: "#7ddc8f" };
const TITLES = { axial: "Axial", sagittal: "Sagittal", coronal: "Coronal" };
const SLIDER = 26; // pixels at the right edge

export class Tile {
  constructor(viewer, description) {
    this.viewer = viewer;
    this.plane = new Plane(viewer.volume, description);
    this.name = description.name;
    const { meta } = viewer.volume;
    this.title = meta.oriented ? TITLES[this.name] : this.plane.axis === meta.axis ? (meta.color ? "Frames" : "Slices") : `Axis ${this.plane.axis}`;
    this.isMain = this.plane.axis === meta.axis;
    this.view = { zoom: 1, x: this.plane.width / 2, y: this.plane.height / 2 };
    this.dirty = { image: true, labels: true, view: true, overlay: true, slider: true };
    this.canvas = el("canvas", { class: "image" });
    this.overlay = el("canvas", { class: "overlay", tabindex: -1, "aria-label": `${this.title} plane` });
    this.sliderCanvas = el("canvas");
    this.slider = el("div", { class: "slider", title: "Slices, coloured by estimated quality where something is marked" }, this.sliderCanvas);
    this.where = el("span", { class: "where" });
    this.node = el(
      "section",
      { class: "tile", "data-plane": this.name, "aria-label": `${this.title} plane` },
      this.canvas,
      this.overlay,
      el("div", { class: "tile-head" }, el("i", { class: "dot", style: { background: PLANE_COLORS[this.name] } }), el("b", {}, this.title), this.where),
      el("button", { class: "icon-button small enlarge", title: "Make this plane the large one", "aria-label": "Make this plane the large one", onclick: () => viewer.focusOn(this.name) }, icon("enlarge")),
      this.slider,
    );
    this.context = this.canvas.getContext("2d");
    this.top = this.overlay.getContext("2d");
    this.sliderContext = this.sliderCanvas.getContext("2d");
    this.sliderFlip = this._sliderFlip();
    this._dragSlider();
    new ResizeObserver(() => this.resize()).observe(this.node);
  }

  // geometry

  get index() {
    return this.viewer.cross[this.plane.axis];
  }

  resize() {
    const { clientWidth, clientHeight } = this.node;
    const ratio = window.devicePixelRatio || 1;
    this.width = clientWidth;
    this.height = clientHeight;
    this.ratio = ratio;
    for (const [canvas, width] of [[this.canvas, clientWidth], [this.overlay, clientWidth], [this.sliderCanvas, SLIDER]]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    }
    this.invalidate("view", "overlay", "slider");
  }

  /** CSS pixels per voxel across and down. */
  get scale() {
    const [mx, my] = this.plane.mm;
    const room = [Math.max(this.width - SLIDER - 24, 20), Math.max(this.height - 40, 20)];
    const fit = Math.min(room[0] / (this.plane.width * mx), room[1] / (this.plane.height * my));
    return [fit * mx * this.view.zoom, fit * my * this.view.zoom];
  }

  get centre() {
    return [(this.width - SLIDER) / 2, this.height / 2];
  }

  toScreen(u, v) {
    const [sx, sy] = this.scale;
    const [cx, cy] = this.centre;
    return [cx + (u - this.view.x) * sx, cy + (v - this.view.y) * sy];
  }

  toPicture(px, py) {
    const [sx, sy] = this.scale;
    const [cx, cy] = this.centre;
    return [this.view.x + (px - cx) / sx, this.view.y + (py - cy) / sy];
  }

  /** Voxel under a point of the tile, or null outside the volume. */
  voxelAt(px, py, clipped = false) {
    let [u, v] = this.toPicture(px, py);
    if (clipped) {
      u = clamp(u, 0, this.plane.width - 1e-3);
      v = clamp(v, 0, this.plane.height - 1e-3);
    }
    const point = this.plane.voxel(u, v, this.index);
    return this.viewer.volume.inside(point) ? point : null;
  }

  /** Middle of a voxel in tile pixels. */
  pixelOf(point) {
    return this.toScreen(...this.plane.pixel(point));
  }

  zoomAt(factor, px, py) {
    const before = this.toPicture(px, py);
    this.view.zoom = clamp(this.view.zoom * factor, 0.5, 40);
    const after = this.toPicture(px, py);
    this.view.x += before[0] - after[0];
    this.view.y += before[1] - after[1];
    this._keepInSight();
  }

  pan(dx, dy) {
    const [sx, sy] = this.scale;
    this.view.x -= dx / sx;
    this.view.y -= dy / sy;
    this._keepInSight();
  }

  fit() {
    this.view = { zoom: 1, x: this.plane.width / 2, y: this.plane.height / 2 };
    this.invalidate("view", "overlay");
  }

  _keepInSight() {
    this.view.x = clamp(this.view.x, 0, this.plane.width);
    this.view.y = clamp(this.view.y, 0, this.plane.height);
    this.invalidate("view", "overlay");
  }

  invalidate(...parts) {
    for (const part of parts) this.dirty[part] = true;
    this.viewer.schedule();
  }

  // drawing

  draw() {
    if (!this.width || !this.height) return;
    const { dirty, plane } = this;
    if (dirty.image) plane.paintImage(this.index);
    if (dirty.labels) plane.paintLabels(this.index);
    if (dirty.image || dirty.labels || dirty.view) this._compose();
    if (dirty.overlay || dirty.view) this._drawOverlay();
    if (dirty.slider) this._drawSlider();
    if (dirty.image) this.where.textContent = `${this.index} / ${plane.depth - 1}`;
    this.dirty = {};
  }

  _compose() {
    const { context, plane, viewer, ratio } = this;
    const [sx, sy] = this.scale;
    const [x, y] = this.toScreen(0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = sx < 6; // one sees the voxels once they are large
    context.drawImage(plane.image.canvas, x, y, plane.width * sx, plane.height * sy);
    const look = viewer.look;
    if (!look.masks) return;
    if (look.opacity > 0) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = look.opacity;
      context.drawImage(plane.overlay.canvas, x, y, plane.width * sx, plane.height * sy);
      context.globalAlpha = 1;
    }
    if (look.outline) {
      const place = new DOMMatrix([sx, 0, 0, sy, x, y]);
      for (const [label, path] of plane.outlines) {
        const placed = new Path2D();
        placed.addPath(path, place);
        context.strokeStyle = viewer.colorOf(label);
        context.lineWidth = label === viewer.activeLabel ? 1.8 : 1.2;
        context.stroke(placed);
      }
    }
  }

  _drawOverlay() {
    const { top, ratio, viewer } = this;
    top.setTransform(ratio, 0, 0, ratio, 0, 0);
    top.clearRect(0, 0, this.width, this.height);
    if (viewer.look.cross) this._drawCross(top);
    if (viewer.look.marks) this._drawMarks(top);
    viewer.tools.draw(this, top);
    this._drawLetters(top);
    this._drawScaleBar(top);
  }

  _drawCross(g) {
    const [x, y] = this.pixelOf(this.viewer.cross);
    const gap = 14;
    const lineOf = (axis) => {
      const other = this.viewer.tiles.find((tile) => tile.plane.axis === axis);
      return PLANE_COLORS[other.name];
    };
    g.lineWidth = 1;
    g.globalAlpha = 0.5;
    g.strokeStyle = lineOf(this.plane.across);
    g.beginPath();
    g.moveTo(x, 0); g.lineTo(x, y - gap); g.moveTo(x, y + gap); g.lineTo(x, this.height);
    g.stroke();
    g.strokeStyle = lineOf(this.plane.down);
    g.beginPath();
    g.moveTo(0, y); g.lineTo(x - gap, y); g.moveTo(x + gap, y); g.lineTo(this.width - SLIDER, y);
    g.stroke();
    g.globalAlpha = 1;
  }

  _drawMarks(g) {
    const { viewer, plane, index } = this;
    for (const object of viewer.state.objects) {
      if (viewer.hidden.has(object.name)) continue;
      for (const mark of object.marks) {
        const positions = mark.points.map((p) => p[plane.axis]);
        const low = Math.min(...positions);
        const high = Math.max(...positions);
        if (index < low || index > high) continue;
        if (mark.kind === "click") {
          this._drawClick(g, ...this.pixelOf(mark.points[0]), mark.positive, object.name === viewer.active);
        } else if (mark.kind === "box") {
          const [a, b] = mark.points.map((p) => this.plane.pixel(p));
          const [x0, y0] = this.toScreen(Math.min(a[0], b[0]) - 0.5, Math.min(a[1], b[1]) - 0.5);
          const [x1, y1] = this.toScreen(Math.max(a[0], b[0]) + 0.5, Math.max(a[1], b[1]) + 0.5);
          g.strokeStyle = viewer.colorOf(object.label);
          g.lineWidth = 1.2;
          g.setLineDash([5, 4]);
          g.strokeRect(x0, y0, x1 - x0, y1 - y0);
          g.setLineDash([]);
        } else {
          const flat = low === high;
          g.strokeStyle = mark.positive ? "#5fe08f" : "#ff7b6b";
          g.globalAlpha = 0.85;
          g.lineWidth = 1.5;
          g.setLineDash(mark.kind === "lasso" ? [3, 3] : []);
          if (flat) this.stroke(g, mark.points, mark.kind === "lasso");
          else for (const p of mark.points) if (p[plane.axis] === index) this._dot(g, ...this.pixelOf(p), g.strokeStyle);
          g.setLineDash([]);
          g.globalAlpha = 1;
        }
      }
    }
  }

  stroke(g, points, closed = false) {
    g.beginPath();
    points.forEach((p, i) => (i ? g.lineTo(...this.pixelOf(p)) : g.moveTo(...this.pixelOf(p))));
    if (closed) g.closePath();
    if (points.length === 1) this._dot(g, ...this.pixelOf(points[0]), g.strokeStyle);
    g.stroke();
  }

  _dot(g, x, y, color) {
    g.fillStyle = color;
    g.beginPath();
    g.arc(x, y, 2.5, 0, 7);
    g.fill();
  }

  _drawClick(g, x, y, positive, active) {
    const r = active ? 6 : 4.5;
    g.beginPath();
    g.arc(x, y, r, 0, 7);
    g.fillStyle = positive ? "#2fbf71" : "#e5533d";
    g.fill();
    g.lineWidth = 1.5;
    g.strokeStyle = "#fff";
    g.stroke();
    g.beginPath();
    g.moveTo(x - r * 0.5, y); g.lineTo(x + r * 0.5, y);
    if (positive) { g.moveTo(x, y - r * 0.5); g.lineTo(x, y + r * 0.5); }
    g.stroke();
  }

  _drawLetters(g) {
    if (!this.viewer.volume.meta.oriented) return;
    const [left, right, top, bottom] = this.plane.letters;
    const width = this.width - SLIDER;
    g.font = "600 12px system-ui, sans-serif";
    g.textAlign = "center";
    g.textBaseline = "middle";
    for (const [letter, x, y] of [[left, 11, this.height / 2], [right, width - 9, this.height / 2], [top, width / 2, this.width < 460 ? 30 : 13], [bottom, width / 2, this.height - 12]]) {
      g.lineWidth = 3;
      g.strokeStyle = "#000c";
      g.strokeText(letter, x, y);
      g.fillStyle = "#d9dee7";
      g.fillText(letter, x, y);
    }
  }

  _drawScaleBar(g) {
    const perMm = this.scale[0] / this.plane.mm[0];
    const most = Math.min(140, (this.width - SLIDER) * 0.3);
    let mm = 10 ** Math.floor(Math.log10(most / perMm));
    for (const step of [5, 2]) if (mm * step * perMm <= most) { mm *= step; break; }
    const length = mm * perMm;
    const x = 10;
    const y = this.height - 10;
    const { name, per } = this.viewer.volume.unit;
    const text = `${Number((mm * per).toPrecision(3))} ${name}`;
    for (const [color, width] of [["#000c", 4], ["#d9dee7", 1.5]]) {
      g.strokeStyle = color;
      g.lineWidth = width;
      g.beginPath();
      g.moveTo(x, y - 5); g.lineTo(x, y); g.lineTo(x + length, y); g.lineTo(x + length, y - 5);
      g.stroke();
    }
    g.font = "11px system-ui, sans-serif";
    g.textAlign = "left";
    g.textBaseline = "bottom";
    g.lineWidth = 3;
    g.strokeStyle = "#000c";
    g.strokeText(text, x + 4, y - 4);
    g.fillStyle = "#d9dee7";
    g.fillText(text, x + 4, y - 4);
  }

  // slice slider

  _sliderFlip() {
    for (const other of this.viewer.volume.meta.planes) {
      if (other.down === this.plane.axis) return other.flip_down;
    }
    const other = this.viewer.volume.meta.planes.find((p) => p.across === this.plane.axis);
    return other ? other.flip_across : false;
  }

  sliderY(index) {
    const at = this.sliderFlip ? this.plane.depth - 1 - index : index;
    return 8 + ((at + 0.5) / this.plane.depth) * (this.height - 16);
  }

  sliderIndex(y) {
    const at = clamp(Math.floor(((y - 8) / (this.height - 16)) * this.plane.depth), 0, this.plane.depth - 1);
    return this.sliderFlip ? this.plane.depth - 1 - at : at;
  }

  _drawSlider() {
    const { sliderContext: g, ratio, viewer, plane } = this;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, SLIDER, this.height);
    const x = this.isMain ? 9 : 12;
    const width = this.isMain ? 8 : 3;
    g.fillStyle = "#ffffff1f";
    g.fillRect(x, 8, width, this.height - 16);
    const object = viewer.object;
    const step = (this.height - 16) / plane.depth;
    if (this.isMain && object) {
      object.quality.forEach((q, i) => {
        if (q === null) return;
        g.fillStyle = qualityColor(q);
        g.fillRect(x, this.sliderY(i) - step / 2, width, Math.max(step, 1));
      });
      const accepted = new Set(object.accepted);
      for (const i of object.prompted) {
        const y = this.sliderY(i);
        g.beginPath();
        if (accepted.has(i)) {
          g.strokeStyle = "#5fe08f";
          g.lineWidth = 2;
          g.moveTo(1, y); g.lineTo(3.5, y + 2.5); g.lineTo(7, y - 3);
          g.stroke();
        } else {
          g.fillStyle = "#fff";
          g.moveTo(1.5, y - 3.5); g.lineTo(7, y); g.lineTo(1.5, y + 3.5);
          g.fill();
        }
      }
      if (object.hint && !object.hint.good) {
        const y = this.sliderY(object.hint.index);
        g.strokeStyle = "#5aa9ff";
        g.lineWidth = 2;
        g.beginPath();
        g.arc(21.5, y, 3, 0, 7);
        g.stroke();
      }
    }
    const y = this.sliderY(this.index);
    g.fillStyle = "#000";
    g.fillRect(x - 3, y - 2.5, width + 6, 5);
    g.fillStyle = "#fff";
    g.fillRect(x - 2, y - 1.5, width + 4, 3);
  }

  _dragSlider() {
    const move = (event) => {
      const y = event.clientY - this.slider.getBoundingClientRect().top;
      this.viewer.goTo(this.plane.axis, this.sliderIndex(y));
    };
    this.slider.addEventListener("pointerdown", (event) => {
      this.slider.setPointerCapture(event.pointerId);
      move(event);
      this.slider.onpointermove = move;
    });
    this.slider.addEventListener("pointerup", () => (this.slider.onpointermove = null));
    this.slider.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.viewer.scroll(this, Math.sign(event.deltaY));
    }, { passive: false });
  }
}

/** Red (0.4 and less), amber, green (1). */
export function qualityColor(q) {
  const t = clamp((q - 0.4) / 0.6, 0, 1);
  return `hsl(${Math.round(6 + t * 138)} ${Math.round(78 - t * 18)}% ${Math.round(56 - t * 6)}%)`;
}
