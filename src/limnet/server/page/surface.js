// The fourth tile: surfaces of the objects, made by the server, turned by the pointer. Plain WebGL2, nothing else.

import { clamp, el, icon } from "./dom.js";
import { parseColor } from "./volume.js";
import { request } from "./link.js";

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; uniform mat4 view; uniform mat3 turn; out vec3 n;
void main() { gl_Position = view * vec4(place, 1.0); n = turn * normal; }`;
const FRAGMENT = `#version 300 es
precision highp float; in vec3 n; uniform vec4 color; uniform float shade; out vec4 result;
void main() {
  vec3 m = normalize(n); if (!gl_FrontFacing) m = -m;
  float light = 0.30 + 0.62 * max(dot(m, normalize(vec3(0.35, 0.55, 0.8))), 0.0) + 0.16 * max(dot(m, normalize(vec3(-0.7, 0.1, 0.5))), 0.0);
  float gloss = 0.16 * pow(max(dot(m, normalize(vec3(0.2, 0.35, 0.92))), 0.0), 24.0);
  result = vec4(mix(color.rgb, color.rgb * light + gloss, shade), color.a);
}`;

export class Surface {
  constructor(viewer) {
    this.viewer = viewer;
    this.name = "surface";
    this.meshes = new Map(); // object name -> {signature, buffers}
    this.turn = [-0.35, 0.3]; // radians: around the patient's axis, and up
    this.zoom = 1;
    this.canvas = el("canvas", { class: "overlay", "aria-label": "Surface of the objects" });
    this.message = el("div", { class: "message" }, "Surfaces of what you mark appear here");
    this.node = el(
      "section",
      { class: "tile shape3d", "data-plane": "surface", "aria-label": "3-D" },
      this.canvas,
      el("div", { class: "tile-head" }, el("b", {}, "3-D")),
      el("button", { class: "icon-button small enlarge", title: "Make this view the large one", "aria-label": "Make this view the large one", onclick: () => viewer.focusOn("surface") }, icon("enlarge")),
      this.message,
    );
    this.gl = this._start();
    if (!this.gl) {
      this.message.textContent = "The 3-D view needs WebGL 2, which this browser does not offer. Everything else works.";
      return;
    }
    this._pointer();
    new ResizeObserver(() => this.resize()).observe(this.node);
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.message.hidden = false;
      this.message.textContent = "The graphics card let go of the 3-D view: reload the page to have it back.";
      this.gl = null;
    });
  }

  _start() {
    const gl = this.canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (!gl) return null;
    const compile = (kind, text) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      return shader;
    };
    const program = gl.createProgram();
    gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "normal");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
    gl.useProgram(program);
    this.at = Object.fromEntries(["view", "turn", "color", "shade"].map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 1);
    const corners = this._corners();
    const edges = [0, 1, 1, 3, 3, 2, 2, 0, 4, 5, 5, 7, 7, 6, 6, 4, 0, 4, 1, 5, 2, 6, 3, 7];
    this.box = this._buffers(gl, new Float32Array(corners.flat()), new Float32Array(24), new Uint32Array(edges));
    const [lo, hi] = [0, 1, 2].map((i) => corners.map((c) => c[i])).reduce(([a, b], values) => [[...a, Math.min(...values)], [...b, Math.max(...values)]], [[], []]);
    this.centre = lo.map((v, i) => (v + hi[i]) / 2);
    this.size = Math.hypot(...hi.map((v, i) => v - lo[i]));
    return gl;
  }

  /** The eight corners of the volume in mm LPS. */
  _corners() {
    const { affine, shape } = this.viewer.volume.meta;
    const result = [];
    for (const z of [-0.5, shape[0] - 0.5]) for (const y of [-0.5, shape[1] - 0.5]) for (const x of [-0.5, shape[2] - 0.5])
      result.push([0, 1, 2].map((i) => affine[i][0] * x + affine[i][1] * y + affine[i][2] * z + affine[i][3]));
    return result;
  }

  _buffers(gl, places, normals, indices) {
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    [places, normals].forEach((data, slot) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(slot);
      gl.vertexAttribPointer(slot, 3, gl.FLOAT, false, 0, 0);
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    return { array, count: indices.length };
  }

  /** Fetch meshes of objects that changed; called when no round runs. */
  update() {
    if (!this.gl) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this._fetch(), 350);
  }

  async _fetch() {
    const { viewer } = this;
    if (viewer.state.busy) return; // the processor is the round's; its end comes back here
    const objects = viewer.state.objects.filter((object) => object.voxels);
    const names = new Set(objects.map((object) => object.name));
    for (const name of [...this.meshes.keys()]) if (!names.has(name)) this.meshes.delete(name);
    for (const object of objects) {
      const signature = `${object.label}/${object.rounds}/${object.voxels}/${object.slices}`;
      if (this.meshes.get(object.name)?.signature === signature) continue;
      try {
        const answer = await request(`/api/cases/${viewer.key}/surface/${object.label}`);
        const data = await answer.arrayBuffer();
        if (!this.gl) return;
        const [vertices, triangles] = new Uint32Array(data, 0, 2);
        const places = new Float32Array(data, 8, vertices * 3);
        const indices = new Uint32Array(data, 8 + vertices * 12, triangles * 3);
        this.meshes.set(object.name, { signature, triangles, ...this._buffers(this.gl, places, normalsOf(places, indices), indices) });
      } catch (error) {
        console.warn(error); // the planes show everything; the next change tries again
        return;
      }
    }
    this.message.hidden = this.meshes.size > 0;
    this.draw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.node.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.node.clientHeight * ratio));
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this._draw());
  }

  _draw() {
    const { gl, viewer } = this;
    if (!gl) return;
    const { width, height } = this.canvas;
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [yaw, pitch] = this.turn;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    // from LPS to the screen: seen from the front, head up; then around the long axis, then up or down
    const right = [cy, sy, 0];
    const deep = [sy * cp, -cy * cp, sp];
    const up = [-sy * sp, cy * sp, cp];
    const scale = (1.75 * this.zoom) / this.size;
    const [ax, ay] = width > height ? [height / width, 1] : [1, width / height];
    const rows = [right.map((v) => v * scale * ax), up.map((v) => v * scale * ay), deep.map((v) => (-v * 0.9) / this.size)];
    const matrix = new Float32Array(16);
    rows.forEach((row, r) => {
      row.forEach((value, c) => (matrix[c * 4 + r] = value));
      matrix[12 + r] = -row.reduce((sum, value, c) => sum + value * this.centre[c], 0);
    });
    matrix[15] = 1;
    gl.uniformMatrix4fv(this.at.view, false, matrix);
    gl.uniformMatrix3fv(this.at.turn, false, new Float32Array([right[0], up[0], deep[0], right[1], up[1], deep[1], right[2], up[2], deep[2]]));
    gl.uniform1f(this.at.shade, 0);
    gl.uniform4f(this.at.color, 0.25, 0.28, 0.33, 1);
    gl.bindVertexArray(this.box.array);
    gl.drawElements(gl.LINES, this.box.count, gl.UNSIGNED_INT, 0);
    gl.uniform1f(this.at.shade, 1);
    for (const [name, mesh] of this.meshes) {
      const object = viewer.state.objects.find((o) => o.name === name);
      if (!object || viewer.hidden.has(name) || !viewer.look.masks) continue;
      gl.uniform4f(this.at.color, ...parseColor(object.color).map((v) => v / 255), 1);
      gl.bindVertexArray(mesh.array);
      gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    }
    this.drawn = (this.drawn || 0) + 1;
  }

  _pointer() {
    const { canvas } = this;
    canvas.style.cursor = "grab";
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      this.turn[0] -= event.movementX * 0.01;
      this.turn[1] = clamp(this.turn[1] + event.movementY * 0.01, -1.55, 1.55);
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom = clamp(this.zoom * Math.exp(-event.deltaY * 0.001), 0.4, 12);
      this.draw();
    }, { passive: false });
  }
}

/** Mean of the normals of the triangles around each vertex, weighted by area. */
function normalsOf(places, indices) {
  const normals = new Float32Array(places.length);
  for (let t = 0; t < indices.length; t += 3) {
    const [a, b, c] = [indices[t] * 3, indices[t + 1] * 3, indices[t + 2] * 3];
    const ux = places[b] - places[a], uy = places[b + 1] - places[a + 1], uz = places[b + 2] - places[a + 2];
    const vx = places[c] - places[a], vy = places[c + 1] - places[a + 1], vz = places[c + 2] - places[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const i of [a, b, c]) { normals[i] += nx; normals[i + 1] += ny; normals[i + 2] += nz; }
  }
  return normals;
}
