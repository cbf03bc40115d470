// Voxels and labels in memory, and slices of them as pictures. Knows array axes, strides and flips, nothing medical.

import { clamp } from "./dom.js";

const rgba = (r, g, b, a = 255) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

export function parseColor(text) {
  const value = parseInt(text.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export class Volume {
  constructor(meta, bytes) {
    this.meta = meta;
    this.shape = meta.shape;
    this.strides = [meta.shape[1] * meta.shape[2], meta.shape[2], 1];
    this.size = meta.shape[0] * this.strides[0];
    this.values = meta.color ? bytes : new Int16Array(bytes.buffer, 0, this.size);
    this.labels = new Uint8Array(this.size);
    this.gray = new Uint32Array(65536);
    this.fill = new Uint32Array(256);
    this.hiddenLabels = new Uint8Array(256);
    this.setWindow(...meta.window);
    const finest = Math.min(...meta.spacing);
    const unknown = !meta.oriented && meta.spacing.every((mm) => mm === 1); // pictures and films
    this.unit = unknown ? { name: "px", per: 1 } : finest >= 0.05 ? { name: "mm", per: 1 } : finest >= 5e-5 ? { name: "µm", per: 1e3 } : { name: "nm", per: 1e6 };
  }

  /** The window in raw units. */
  setWindow(low, high) {
    this.window = [low, high];
    const { scale, offset, color } = this.meta;
    const width = Math.max(high - low, 1e-9);
    const count = color ? 256 : 65536;
    for (let i = 0; i < count; i++) {
      const value = color ? i : (i - 32768) * scale + offset;
      const level = clamp(Math.round((255 * (value - low)) / width), 0, 255);
      this.gray[i] = color ? level : rgba(level, level, level);
    }
  }

  /** Colours of the labels: {label: {color: "#rrggbb", visible}}. */
  setPalette(entries) {
    this.fill.fill(0);
    this.hiddenLabels.fill(1);
    this.hiddenLabels[0] = 0;
    for (const [label, { color, visible }] of Object.entries(entries)) {
      if (!visible) continue;
      this.fill[label] = rgba(...parseColor(color));
      this.hiddenLabels[label] = 0;
    }
  }

  offset([z, y, x]) {
    return z * this.strides[0] + y * this.strides[1] + x;
  }

  inside(point) {
    return point.every((p, axis) => p >= 0 && p < this.shape[axis]);
  }

  /** A length in mm as text, in the unit that suits the size of the voxels. */
  lengthText(mm) {
    return `${(mm * this.unit.per).toFixed(1)} ${this.unit.name}`;
  }

  /** Raw value(s) of a voxel as text. */
  valueText(point) {
    const at = this.offset(point);
    if (this.meta.color) return [0, 1, 2].map((c) => this.values[c * this.size + at]).join(" ");
    const value = this.values[at] * this.meta.scale + this.meta.offset;
    if (this.meta.scale === 1) return String(value);
    return String(Number(value.toPrecision(4)));
  }

  /** Paste labels of a box ((first, end) per axis). */
  paste([[z0, z1], [y0, y1], [x0, x1]], labels) {
    const width = x1 - x0;
    let at = 0;
    for (let z = z0; z < z1; z++)
      for (let y = y0; y < y1; y++, at += width)
        this.labels.set(labels.subarray(at, at + width), z * this.strides[0] + y * this.strides[1] + x0);
  }

  /** Paste packed bits of one object: set voxels get its label, cleared ones lose it. */
  pasteBits([[z0, z1], [y0, y1], [x0, x1]], bits, label) {
    const { labels, strides } = this;
    let bit = 0;
    for (let z = z0; z < z1; z++)
      for (let y = y0; y < y1; y++) {
        let at = z * strides[0] + y * strides[1] + x0;
        for (let x = x0; x < x1; x++, at++, bit++) {
          if ((bits[bit >> 3] >> (7 - (bit & 7))) & 1) labels[at] = label;
          else if (labels[at] === label) labels[at] = 0;
        }
      }
  }

  count(label) {
    let n = 0;
    for (let i = 0; i < this.size; i++) n += this.labels[i] === label;
    return n;
  }
}

/** One plane of a volume: its slices as pictures, and where a voxel lies in them. */
export class Plane {
  constructor(volume, description) {
    this.volume = volume;
    Object.assign(this, description); // name, axis, across, down, flip_across, flip_down, letters
    this.width = volume.shape[this.across];
    this.height = volume.shape[this.down];
    this.depth = volume.shape[this.axis];
    this.mm = [volume.meta.spacing[this.across], volume.meta.spacing[this.down]];
    const picture = () => {
      const canvas = new OffscreenCanvas(this.width, this.height);
      const context = canvas.getContext("2d");
      const image = context.createImageData(this.width, this.height);
      return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
    };
    this.image = picture();
    this.overlay = picture();
    this.slice = new Uint8Array(this.width * this.height);
    this.outlines = new Map();
  }

  _walk(index) {
    const { strides } = this.volume;
    const start = index * strides[this.axis] +
      (this.flip_across ? (this.width - 1) * strides[this.across] : 0) +
      (this.flip_down ? (this.height - 1) * strides[this.down] : 0);
    return [start, this.flip_across ? -strides[this.across] : strides[this.across], this.flip_down ? -strides[this.down] : strides[this.down]];
  }

  paintImage(index) {
    const { values, gray, size, meta } = this.volume;
    const { pixels } = this.image;
    const [start, step, row] = this._walk(index);
    let n = 0;
    for (let r = 0; r < this.height; r++) {
      let p = start + r * row;
      if (meta.color)
        for (let q = 0; q < this.width; q++, p += step)
          pixels[n++] = rgba(gray[values[p]], gray[values[size + p]], gray[values[2 * size + p]]);
      else for (let q = 0; q < this.width; q++, p += step) pixels[n++] = gray[values[p] + 32768];
    }
    this.image.context.putImageData(this.image.image, 0, 0);
  }

  paintLabels(index) {
    const { labels, fill, hiddenLabels } = this.volume;
    const { pixels } = this.overlay;
    const { slice, width, height } = this;
    const [start, step, row] = this._walk(index);
    let n = 0;
    let first = height;
    let last = -1;
    for (let r = 0; r < height; r++) {
      let p = start + r * row;
      let any = 0;
      for (let q = 0; q < width; q++, p += step) {
        const label = labels[p];
        any |= label;
        slice[n] = hiddenLabels[label] ? 0 : label;
        pixels[n++] = fill[label];
      }
      if (any) {
        if (r < first) first = r;
        last = r;
      }
    }
    this.overlay.context.putImageData(this.overlay.image, 0, 0);
    this._trace(first, last);
  }

  /** Pixel edges around every label as a path, in pixel units. */
  _trace(first, last) {
    const { slice, width } = this;
    this.outlines = new Map();
    if (last < first) return;
    const path = (label) => {
      if (!this.outlines.has(label)) this.outlines.set(label, new Path2D());
      return this.outlines.get(label);
    };
    for (let r = first; r <= last + 1; r++) {
      const above = r > first ? (r - 1) * width : -1;
      const here = r <= last ? r * width : -1;
      for (const upper of [true, false]) {
        // runs of edges that belong to the pixel above (upper) or below this line
        let label = 0;
        let from = 0;
        for (let q = 0; q <= width; q++) {
          let now = 0;
          if (q < width) {
            const a = above < 0 ? 0 : slice[above + q];
            const b = here < 0 ? 0 : slice[here + q];
            if (a !== b) now = upper ? a : b;
          }
          if (now !== label) {
            if (label) {
              const p = path(label);
              p.moveTo(from, r);
              p.lineTo(q, r);
            }
            label = now;
            from = q;
          }
        }
      }
    }
    for (let r = first; r <= last; r++) {
      const at = r * width;
      let left = 0;
      for (let q = 0; q <= width; q++) {
        const right = q < width ? slice[at + q] : 0;
        if (left !== right) {
          for (const label of [left, right])
            if (label) {
              const p = path(label);
              p.moveTo(q, r);
              p.lineTo(q, r + 1);
            }
        }
        left = right;
      }
    }
  }

  /** Voxel under a point of the picture (pixel units, fractions). */
  voxel(u, v, index) {
    const point = [0, 0, 0];
    const q = Math.floor(u);
    const r = Math.floor(v);
    point[this.axis] = index;
    point[this.across] = this.flip_across ? this.width - 1 - q : q;
    point[this.down] = this.flip_down ? this.height - 1 - r : r;
    return point;
  }

  /** Middle of a voxel in the picture. */
  pixel(point) {
    const q = point[this.across];
    const r = point[this.down];
    return [(this.flip_across ? this.width - 1 - q : q) + 0.5, (this.flip_down ? this.height - 1 - r : r) + 0.5];
  }
}
