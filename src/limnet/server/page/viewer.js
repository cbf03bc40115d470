// One open case: its volume, planes, objects, and everything the user does to it.

import { $, clamp, el, icon, remembered, toast } from "./dom.js";
import { Channel, download, get, inflate, post, request } from "./link.js";
import { Volume } from "./volume.js";
import { Tile } from "./tile.js";
import { Surface } from "./surface.js";
import { Tools, runsOfSlice } from "./tools.js";
import { Panel } from "./panel.js";
import { SaveDialog, snapshot } from "./save.js";
import { showHelp } from "./keys.js";

const PALETTE = ["#ff6b6b", "#4cc9f0", "#ffd166", "#80ed99", "#c77dff", "#ff9f43", "#6c8cff", "#f783ac", "#2dd4bf", "#b5e048", "#e07a5f", "#a9b4c2"];
const CT_WINDOWS = { Abdomen: [-160, 240], Lung: [-1350, 150], Bone: [-450, 1050], Brain: [0, 80], Mediastinum: [-125, 225] };

export class Viewer {
  constructor(hello, start) {
    this.hello = hello;
    this.start = start;
    this.ready = false;
    this.state = { objects: [], done: [], undone: [], next: 1, busy: null };
    this.active = "object 1";
    this.hidden = new Set();
    this.skip = [];
    this.tiles = [];
    this.look = { masks: true, outline: true, marks: true, cross: true, opacity: 0.4, ...remembered.get("look", {}) };
    this.times = []; // milliseconds from a prompt to the first new mask on the screen
    this.clock = null;
    this.measuring = false;
    this.rounds = 0;
    this.tools = new Tools(this);
    this.panel = new Panel(this);
    this.saveDialog = new SaveDialog(this, hello.formats);
    this._bar();
  }

  // opening

  async open(name) {
    $("#start").hidden = true;
    $("#viewer").hidden = false;
    $("#toasts").replaceChildren(); // what was said of other files
    this._loading("Opening", null);
    try {
      this.close();
      const found = await post("/api/resume", { name });
      this.key = found.key;
      this.session = found.name;
      location.hash = `case=${encodeURIComponent(found.name)}`;
      this.meta = await get(`/api/cases/${this.key}`);
      $("#title").textContent = `${this.meta.title}  ·  ${[...this.meta.shape].reverse().join(" × ")}`;
      $("#saved").textContent = "";
      const bytes = await download(`/api/cases/${this.key}/volume`, this.meta.bytes, (share) => this._loading(`Loading ${this.meta.title}`, share));
      this.volume = new Volume(this.meta, bytes);
      this.cross = this.meta.shape.map((n) => Math.floor(n / 2));
      this._build();
      this.channel = new Channel(this.key, {
        onText: (message) => this._onText(message),
        onBinary: (header, data) => this._onBinary(header, data),
        onState: (state) => this._onConnection(state),
      });
      await new Promise((resolve, reject) => { this._opened = resolve; this._refused = reject; });
      for (const notice of this.meta.notices) toast(notice, { seconds: 20 });
      const last = this.state.objects[this.state.objects.length - 1];
      if (last) {
        this.choose(last.name);
        this.moveCross(last.centre || this.cross);
      }
      $("#loading").hidden = true;
      this.ready = true;
    } catch (error) {
      this.close();
      history.replaceState(null, "", "/");
      await this.start.show();
      toast(error.message, { kind: "error" });
    }
  }

  close() {
    this.ready = false;
    this.channel?.close();
    this.channel = null;
    this.banner("");
    for (const tile of this.tiles) tile.node.remove();
    this.surface?.node.remove();
    this.tiles = [];
    this.volume = null;
    this.surface = null;
    this._paletteNow = null; // the next volume has none yet, even of the same objects
    this.hidden.clear();
    this.active = "object 1";
    this.state = { objects: [], done: [], undone: [], next: 1, busy: null };
    this.tools.draft = this.tools.rule = this.tools.hover = null;
  }

  _build() {
    const order = { axial: 0, sagittal: 1, coronal: 2 };
    this.tiles = [...this.meta.planes].sort((a, b) => order[a.name] - order[b.name]).map((plane) => new Tile(this, plane));
    this.surface = new Surface(this);
    for (const tile of this.tiles) this.tools.attach(tile);
    $("#tiles").replaceChildren(...this.tiles.map((tile) => tile.node), this.surface.node);
    this.main = this.tiles.find((tile) => tile.isMain);
    this.pointed = this.main;
    for (const tile of this.tiles) tile.node.addEventListener("pointerenter", () => (this.pointed = tile));
    this.focusOn(this.main.name);
    $("#tiles").dataset.layout = remembered.get("layout", "focus");
    this.tools.positive = true;
    this.tools.choose("point");
    this._presets();
    const kept = remembered.get(`window.${this.session}`, null);
    if (kept) this.setWindow(...kept);
    this._coach();
  }

  async _fetchLabels() {
    const answer = await request(`/api/cases/${this.key}/labels`);
    const labels = await inflate(await answer.arrayBuffer(), this.volume.size);
    this.volume.labels.set(labels);
    this.labelsChanged();
  }

  _loading(text, share) {
    $("#loading").hidden = false;
    $("#loading-text").textContent = text;
    if (share === null) $("#loading-bar").removeAttribute("value");
    else $("#loading-bar").value = share;
  }

  // messages of the server

  async _onConnection(state) {
    if (state === "open") {
      this.banner("");
      // labels come after the channel is open: whatever changes meanwhile waits in its queue, behind this
      this.channel.queue = this.channel.queue.then(async () => {
        try {
          await this._fetchLabels();
        } catch (error) {
          this._refused?.(error);
        }
      });
    } else if (state === "refused") {
      this._refused?.(new Error("this browser is not known to the server: open the address that `limnet view` printed"));
      this.banner("limnet was started anew and does not know this browser: open the address it printed. Nothing is lost.");
    } else if (state === "gone") {
      try {
        const { key } = await post("/api/resume", { name: this.session });
        this.key = key;
        this.channel.session = key;
      } catch (error) {
        this._refused?.(error);
        if (error.status) this.banner(error.message);
      }
    } else if (!this.ready) {
      this._refused?.(new Error("limnet does not answer: reload the page. If you closed it, start it again: nothing is lost"));
    } else {
      this.banner("limnet does not answer. Trying again … If you closed it, start it again: nothing is lost.");
    }
  }

  async _onText(message) {
    if (message.type === "state") this._onState(message);
    else if (message.type === "progress") {
      this.state.busy = message;
      this._showRound();
    } else if (message.type === "saved") this._saved("All steps saved", false);
    else if (message.type === "unsaved") this._saved(message.text, true);
    else if (message.type === "closed") this.banner("This case was closed elsewhere. Open it again from the list of sessions.");
  }

  _onState(state) {
    const before = this.state;
    this.state = state;
    if (!this.object && state.objects.length && !this._wanted) this.active = state.objects[state.objects.length - 1].name;
    if (this.object) this._wanted = null;
    this._palette();
    this.panel.show();
    this.showPending();
    this._showRound();
    this._coach();
    for (const tile of this.tiles) tile.invalidate("overlay", "slider");
    if (!state.busy) this.surface?.update();
    if (before.done.length !== state.done.length) this.skip = [];
    this._opened?.(); // the first state comes after the labels
  }

  async _onBinary(header, data) {
    if (!this.volume) return;
    const bytes = await inflate(data, header.size);
    if (!this.volume) return;
    if (header.kind === "bits") this.volume.pasteBits(header.box, bytes, header.label);
    else this.volume.paste(header.box, bytes);
    for (const tile of this.tiles) {
      const [first, end] = header.box[tile.plane.axis];
      if (tile.index >= first && tile.index < end) tile.invalidate("labels");
    }
  }

  _saved(text, bad) {
    $("#saved").textContent = bad ? "Not saved" : text;
    $("#saved").title = text;
    $("#saved").className = bad ? "bad" : "";
    if (bad) toast(text, { kind: "error" });
  }

  banner(text) {
    $("#banner").textContent = text;
    $("#banner").hidden = !text;
  }

  // objects

  get object() {
    return this.state.objects.find((object) => object.name === this.active) || null;
  }

  get activeLabel() {
    return this.object?.label || 0;
  }

  activeLabelOrNew() {
    return this.activeLabel || this.state.next;
  }

  byLabel(label) {
    return this.state.objects.find((object) => object.label === label) || null;
  }

  lockedLabels() {
    return new Set(this.state.objects.filter((object) => object.finished && object.name !== this.active).map((object) => object.label));
  }

  colorOf(label) {
    return this.byLabel(label)?.color || PALETTE[(label - 1) % PALETTE.length];
  }

  _palette() {
    if (!this.volume) return;
    const entries = Object.fromEntries(this.state.objects.map((object) => [object.label, { color: object.color, visible: !this.hidden.has(object.name) }]));
    const { next } = this.state;
    entries[next] = { color: this.colorOf(next), visible: true };
    const signature = JSON.stringify(entries);
    if (signature === this._paletteNow) return;
    this._paletteNow = signature;
    this.volume.setPalette(entries);
    this.labelsChanged();
    this.surface?.draw();
  }

  choose(name) {
    this.active = name;
    this._wanted = this.state.objects.some((object) => object.name === name) ? null : name;
    this.skip = [];
    this.panel.show();
    this.showPending();
    for (const tile of this.tiles) tile.invalidate("view", "slider");
  }

  chooseNumber(number) {
    const object = this.byLabel(number);
    if (object) this.choose(object.name);
    else toast(`There is no object with the label ${number}. E makes the next one.`);
  }

  nextObject() {
    if (!this.object || !this.object.rounds) {
      toast("Mark this object first; then the next one.");
      return;
    }
    const names = new Set(this.state.objects.map((object) => object.name));
    let number = this.state.next;
    while (names.has(`object ${number}`)) number++;
    this.choose(`object ${number}`);
  }

  pickLabel(point) {
    const object = this.byLabel(this.volume.labels[this.volume.offset(point)]);
    if (object) this.choose(object.name);
  }

  toggleHidden(name) {
    if (this.hidden.has(name)) this.hidden.delete(name);
    else this.hidden.add(name);
    this._palette();
    this.panel.show();
    this.redrawOverlays();
  }

  jumpTo(name) {
    const object = this.state.objects.find((o) => o.name === name);
    if (object?.centre) this.moveCross(object.centre);
    else toast("This object is empty: there is nowhere to go to.");
  }

  resetObject(name) {
    const object = this.state.objects.find((o) => o.name === name);
    if (!object?.rounds) return;
    this.edit("reset", name).then((done) => done && toast(`${name} was reset.`, { action: { label: "Undo", run: () => this.step(-1) } }));
  }

  async deleteObject(name) {
    const object = this.state.objects.find((o) => o.name === name);
    if (!object) return;
    this.hidden.delete(name);
    if (await this.edit("delete", name)) toast(`${name} was deleted.`, { action: { label: "Undo", run: () => this.step(-1) } });
  }

  async edit(action, object, more = {}) {
    if (action === "rename" && this.active === object) this.active = more.to;
    const answer = await this._ask({ do: "edit", action, object, ...more });
    if (!answer && action === "rename" && this.active === more.to) this.active = object;
    this.panel.show();
    return answer !== null;
  }

  // prompts and steps

  /** Whether the active object takes prompts; says why not. */
  mayPrompt() {
    if (!this.ready) return false;
    if (this.object?.finished) {
      toast(`${this.active} is locked.`, { action: { label: "Unlock", run: () => this.edit("reopen", this.active) } });
      return false;
    }
    if (this.hidden.has(this.active)) this.toggleHidden(this.active);
    if (!this.look.masks) this.setLook({ masks: true });
    return true;
  }

  async prompt(prompt, tile = null, propagate = true) {
    if (!this.mayPrompt()) return null;
    this.clock = performance.now();
    $(".coach")?.remove();
    const answer = await this._ask({ do: "prompt", object: this.active, prompt, propagate });
    if (answer) this.rounds++;
    else if (prompt.mask) await this._fetchLabels().catch(() => {}); // what was painted did not hold
    return answer;
  }

  /** Hand-drawn slice: its mask is stated, and carried on when the user asks for it. */
  sendPainted(index) {
    const label = this.activeLabelOrNew();
    const mask = runsOfSlice(this.volume, this.meta.axis, index, label);
    return this.prompt({ type: "mask", mask, index, frozen: true }, this.main, false);
  }

  reloadSlice() {
    this._fetchLabels().catch(() => {});
  }

  propagate() {
    if (!this.object?.pending) return null;
    return this._ask({ do: "propagate", object: this.active }).then((answer) => answer && this.rounds++);
  }

  async accept() {
    const object = this.object;
    if (!object?.rounds) {
      toast("Mark the object first; then a slice of it can be accepted.");
      return;
    }
    const index = this.cross[this.meta.axis];
    if (await this._ask({ do: "accept", object: this.active, index })) toast(`Slice ${index} stays as it is now.`, { kind: "good" });
  }

  step(steps) {
    if (steps < 0 && !this.state.done.length) return toast("There is nothing to undo.");
    if (steps > 0 && !this.state.undone.length) return toast("There is nothing to redo.");
    return this._ask({ do: "step", steps });
  }

  alternative(by) {
    if (!this.object?.alternatives) {
      toast(by < 0 ? "There is no smaller answer to choose. It works right after a click." : "There is no larger answer to choose. It works right after a click.");
      return null;
    }
    return this._ask({ do: "alternative", object: this.active, by }, "info");
  }

  cancel() {
    if (!this.state.busy) return false;
    this._ask({ do: "cancel" });
    return true;
  }

  async _ask(command, kind = "error") {
    try {
      const answer = await this.channel.ask(command);
      if (answer.cancelled === true) {
        toast("Cancelled: everything is as it was before.");
        return null;
      }
      return answer;
    } catch (error) {
      toast(error.message, { kind });
      return null;
    }
  }

  async goToHint() {
    const object = this.object;
    if (!object?.rounds) {
      toast("Click on the structure first, on a slice where it is large.");
      return;
    }
    let hint = object.hint;
    if (!hint || this.skip.includes(hint.index)) {
      const answer = await this._ask({ do: "suggest", object: this.active, skip: this.skip });
      hint = answer?.hint;
    }
    if (!hint) {
      toast("Every slice was looked at.");
      return;
    }
    this.skip.push(hint.index);
    const point = hint.centre ? [...hint.centre] : [...this.cross];
    point[this.meta.axis] = hint.index;
    this.moveCross(point);
    this.panel.tellHint(hint);
  }

  /** To the marked slice before or after this one. */
  jumpMarked(by) {
    const axis = this.meta.axis;
    const marked = this.object?.prompted || [];
    const here = this.cross[axis];
    const flip = this.main.sliderFlip ? -by : by;
    const next = flip > 0 ? marked.find((i) => i > here) : [...marked].reverse().find((i) => i < here);
    if (next === undefined) toast("No marked slice further on.");
    else this.goTo(axis, next);
  }

  // looking

  goTo(axis, index) {
    const point = [...this.cross];
    point[axis] = clamp(index, 0, this.meta.shape[axis] - 1);
    this.moveCross(point);
  }

  /** One slice on or back on a plane, in the order of its slider. */
  scroll(tile, by) {
    const { axis } = tile.plane;
    this.goTo(axis, this.cross[axis] + (tile.sliderFlip ? -by : by));
  }

  moveCross(point, { keep = null } = {}) {
    for (const tile of this.tiles) {
      if (point[tile.plane.axis] !== this.cross[tile.plane.axis]) tile.invalidate("image", "labels", "view", "overlay", "slider");
      else tile.invalidate("overlay");
    }
    this.cross = [...point];
    for (const tile of this.tiles) if (tile !== keep) this._follow(tile);
  }

  /** Where a plane is zoomed in, keep the crosshair in sight. */
  _follow(tile) {
    if (!tile.width) return;
    const [x, y] = tile.pixelOf(this.cross);
    if (x > 20 && y > 20 && x < tile.width - 40 && y < tile.height - 20) return;
    if (tile.view.zoom <= 1) return;
    [tile.view.x, tile.view.y] = tile.plane.pixel(this.cross);
    tile.invalidate("view", "overlay");
  }

  setWindow(low, high) {
    if (!(high - low > 1e-6)) return;
    this.volume.setWindow(low, high);
    for (const tile of this.tiles) tile.invalidate("image");
    this._showPreset();
  }

  keepWindow() {
    remembered.set(`window.${this.session}`, this.volume.window);
  }

  _presets() {
    const { meta } = this.volume;
    const presets = { Auto: meta.window, ...(meta.ct ? CT_WINDOWS : {}) };
    if (!meta.color) {
      let low = Infinity;
      let high = -Infinity;
      for (let i = 0; i < this.volume.size; i += 17) {
        const v = this.volume.values[i];
        if (v < low) low = v;
        if (v > high) high = v;
      }
      presets.Full = [low * meta.scale + meta.offset, Math.max(high, low + 1) * meta.scale + meta.offset];
    }
    this.presets = presets;
    $("#preset").replaceChildren(...Object.keys(presets).map((name) => el("option", { value: name }, name)), el("option", { value: "", hidden: true }, "By hand"));
    $("#preset").onchange = (event) => {
      this.setWindow(...presets[event.target.value]);
      this.keepWindow();
      event.target.blur();
    };
    this._showPreset();
  }

  _showPreset() {
    const [low, high] = this.volume.window;
    const name = Object.entries(this.presets).find(([, [a, b]]) => Math.abs(a - low) < 1e-6 && Math.abs(b - high) < 1e-6)?.[0] || "";
    const digits = high - low > 20 ? 0 : 2;
    $("#preset").lastChild.textContent = `${low.toFixed(digits)} … ${high.toFixed(digits)}`;
    $("#preset").value = name;
  }

  setLook(change) {
    Object.assign(this.look, change);
    remembered.set("look", this.look);
    this.panel.showLook();
    for (const tile of this.tiles) tile.invalidate("view", "overlay");
    this.surface?.draw();
  }

  focusOn(name) {
    for (const tile of [...this.tiles, this.surface]) tile.node.classList.toggle("main", tile.name === name);
  }

  labelsChanged() {
    for (const tile of this.tiles) tile.invalidate("labels");
  }

  redrawOverlays() {
    for (const tile of this.tiles) tile.invalidate("overlay");
  }

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.volume) return;
      const { hover } = this.tools;
      this.showUnder(hover && hover.tile.voxelAt(hover.x, hover.y));
      for (const tile of this.tiles) {
        const labels = tile.dirty.labels && !tile.dirty.image;
        tile.draw();
        if (labels && tile.isMain) this._timed(tile);
      }
      this.frames = (this.frames || 0) + 1;
    });
  }

  /** After a prompt: how long until its first new pixels were drawn. */
  _timed(tile) {
    if (this.clock === null) return;
    if (this.measuring) tile.context.getImageData(0, 0, 1, 1); // waits until it is drawn; too dear for every day
    this.times.push(performance.now() - this.clock);
    this.clock = null;
  }

  // texts

  showUnder(point) {
    if (!point) {
      $("#under").textContent = "";
      return;
    }
    const { meta } = this;
    const { name, per } = this.volume.unit;
    const object = this.byLabel(this.volume.labels[this.volume.offset(point)]);
    const unit = meta.ct ? " HU" : "";
    const parts = [el("b", {}, `${this.volume.valueText(point)}${unit}`), `   voxel z ${point[0]}, y ${point[1]}, x ${point[2]}`];
    if (meta.oriented) {
      const [z, y, x] = point;
      const mm = [0, 1, 2].map((i) => meta.affine[i][0] * x + meta.affine[i][1] * y + meta.affine[i][2] * z + meta.affine[i][3]);
      const side = (v, plus, minus) => `${(Math.abs(v) * per).toFixed(1)} ${v >= 0 ? plus : minus}`;
      parts.push(`   ${side(mm[0], "L", "R")}  ${side(mm[1], "P", "A")}  ${side(mm[2], "S", "I")} ${name}`);
    }
    if (object) parts.push("   ", el("b", { style: { color: object.color } }, object.name));
    if (this.tools.rule) parts.push(`   ruler ${this.volume.lengthText(this.tools.ruleMm)}`);
    $("#under").replaceChildren(...parts);
  }

  _showRound() {
    const { busy } = this.state;
    const box = $("#round");
    if (!busy) {
      box.replaceChildren();
      return;
    }
    box.replaceChildren(
      busy.total ? `${busy.object}: slice ${busy.done} of ${busy.total}` : `${busy.object} …`,
      el("progress", busy.total ? { max: busy.total, value: busy.done } : {}),
      el("button", { class: "link", onclick: () => this.cancel() }, "Cancel (Esc)"),
    );
  }

  /** What waits for Enter: slices drawn by hand, or a 3-D box. */
  showPending() {
    for (const old of document.querySelectorAll(".pending")) old.remove();
    if (!this.main) return;
    const large = this.tiles.find((tile) => tile.node.classList.contains("main")) || this.main;
    if (this.tools.draft?.kind === "box3") {
      large.node.append(el("button", { class: "button primary pending", onclick: () => this.tools.applyBox() }, "Use this box (Enter)"));
      return;
    }
    const object = this.object;
    if (!object?.pending || object.finished || this.state.busy) return;
    const many = object.pending > 1 ? `${object.pending} slices` : "this slice";
    large.node.append(el("button", { class: "button primary pending", title: "What you drew is kept as it is; the other slices follow", onclick: () => this.propagate() }, `Carry ${many} through the volume (Enter)`));
  }

  /** A word of help before anything is marked. */
  _coach() {
    $(".coach")?.remove();
    if (!this.main || this.state.objects.some((object) => object.rounds) || this.state.done.length) return;
    this.main.node.append(el("div", { class: "coach" }, "Scroll to a slice where the structure is large, and click in its middle", el("small", {}, "The mask appears here and spreads to the other slices. Then press N for the most doubtful one: click where something is missing, Shift-click (or right-click) where the mask is too large. ? lists all keys.")));
  }

  _bar() {
    const put = (id, name, run) => {
      $(id).replaceChildren(icon(name));
      $(id).onclick = run;
    };
    put("#undo", "undo", () => this.step(-1));
    put("#redo", "redo", () => this.step(1));
    put("#help-button", "help", showHelp);
    put("#theme", "theme", () => {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      remembered.set("theme", theme);
    });
    put("#snapshot", "camera", () => snapshot(this));
    put("#layout", "grid", () => {
      const layout = $("#tiles").dataset.layout === "focus" ? "grid" : "focus";
      $("#tiles").dataset.layout = layout;
      remembered.set("layout", layout);
    });
    $("#save-button").onclick = () => this.saveDialog.show();
    $("#home").onclick = () => {
      this.close();
      history.replaceState(null, "", "/");
      this.start.show(this.start.path);
    };
  }
}
