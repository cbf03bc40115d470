// The Save dialog, and pictures of the planes.

import { $, el, icon, toast } from "./dom.js";
import { post, request } from "./link.js";
import { ask } from "./start.js";

const WHAT = [
  ["labels", "All objects in one file"],
  ["object", "One object"],
  ["objects", "Every object in a file of its own"],
  ["session", "The session, to go on later or elsewhere"],
];

export class SaveDialog {
  constructor(viewer, formats) {
    this.viewer = viewer;
    this.formats = formats;
    this.dialog = $("#save");
    $("#save-form header button").replaceChildren(icon("close"));
    $("#save-what").replaceChildren(...WHAT.map(([value, text]) => el("option", { value }, text)));
    $("#save-what").onchange = () => this._formats();
    $("#save-format").onchange = () => this._formats();
    $("#save-object").onchange = () => this._path();
    $("#save-write").onclick = () => this._write(false);
    $("#save-download").onclick = () => this._download();
    $("#save-path").onkeydown = (event) => {
      if (event.key === "Enter") { event.preventDefault(); this._write(false); }
    };
  }

  show() {
    const marked = this.viewer.state.objects.filter((object) => object.rounds);
    $("#save-object").replaceChildren(...marked.map(({ name }) => el("option", { value: name, selected: name === this.viewer.active }, name)));
    $("#save-error").textContent = "";
    $("#save-what").value = marked.length ? (marked.length > 1 ? "labels" : "object") : "session";
    for (const option of $("#save-what").options) option.disabled = !marked.length && option.value !== "session";
    this._formats();
    this.asked = {}; // what is still being written belongs to an earlier one
    this.dialog.showModal();
    $("#save-path").focus();
  }

  _formats() {
    const what = $("#save-what").value;
    const before = $("#save-format").value;
    const fitting = this.formats.filter(({ what: fits, suffix }) => fits.includes(what) && (this.viewer.meta.dicom || !suffix.endsWith(".dcm")));
    $("#save-format").replaceChildren(...fitting.map(({ suffix, name }) => el("option", { value: suffix }, name)));
    if (fitting.some(({ suffix }) => suffix === before)) $("#save-format").value = before;
    $("#save-object-row").hidden = what !== "object";
    $("#save-download").hidden = what === "objects";
    const single = $("#save-format").value.endsWith(".dcm") && what === "labels";
    $("#save-note").textContent = single ? "Every object whole, with its name; they may overlap." : { labels: "One label map; the names of the labels go into a .json file beside it.", objects: "The name of each object is put before the suffix.", session: "With the whole history, and the place of the volume.", object: "" }[what];
    this._path();
  }

  _path() {
    const what = $("#save-what").value;
    const base = this.viewer.meta.title.replace(/(\.nii\.gz|\.[a-z]{3,4}\d?)$/i, "");
    const part = { labels: "_labels", object: `_${$("#save-object").value.replace(/[^\p{L}\p{N}._-]+/gu, "_")}`, objects: "", session: "" }[what];
    const folder = this.viewer.start.path ? `${this.viewer.start.path}/` : "";
    $("#save-path").value = `${folder}${base}${part}${$("#save-format").value}`;
  }

  async _write(overwrite) {
    const body = { path: $("#save-path").value.trim(), what: $("#save-what").value, object: $("#save-object").value || null, overwrite };
    if (!body.path) return;
    const { asked } = this;
    $("#save-error").textContent = "";
    $("#save-write").disabled = true;
    try {
      const { written } = await post(`/api/cases/${this.viewer.key}/save`, body);
      this._close(asked);
      toast(`Saved ${written.join(", ")}`, { kind: "good" });
    } catch (error) {
      if (error.status === 409 && (await ask(`${error.message}. Replace?`, "Replace"))) return this._write(true);
      if (error.status !== 409) this._refused(error, asked);
    } finally {
      $("#save-write").disabled = false;
    }
  }

  async _download() {
    const query = new URLSearchParams({ what: $("#save-what").value, suffix: $("#save-format").value });
    if (query.get("what") === "object") query.set("object", $("#save-object").value);
    const { asked } = this;
    $("#save-error").textContent = "";
    try {
      const answer = await request(`/api/cases/${this.viewer.key}/download?${query}`);
      const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") || "")?.[1] || "mask";
      hand(await answer.blob(), name);
      this._close(asked);
    } catch (error) {
      this._refused(error, asked);
    }
  }

  _close(asked) {
    if (this.asked === asked) this.dialog.close();
  }

  /** Say why nothing was written, also where the dialog was closed meanwhile. */
  _refused(error, asked) {
    if (this.dialog.open && this.asked === asked) $("#save-error").textContent = error.message;
    else toast(`Not saved: ${error.message}`, { kind: "error" });
  }
}

/** Give a file to the browser's downloads. */
export function hand(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A PNG of everything the tiles show, as they stand. */
export async function snapshot(viewer) {
  const area = $("#tiles").getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const canvas = el("canvas", { width: Math.round(area.width * ratio), height: Math.round(area.height * ratio) });
  const g = canvas.getContext("2d");
  g.fillStyle = "#000";
  g.fillRect(0, 0, canvas.width, canvas.height);
  for (const tile of [...viewer.tiles, viewer.surface]) {
    const box = tile.node.getBoundingClientRect();
    if (!box.width) continue;
    for (const layer of tile.node.querySelectorAll(":scope > canvas"))
      g.drawImage(layer, (box.left - area.left) * ratio, (box.top - area.top) * ratio, box.width * ratio, box.height * ratio);
    g.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    g.fillStyle = "#dfe3ea";
    g.textBaseline = "top";
    const where = tile.where ? `  ${tile.where.textContent}` : "";
    g.fillText(`${tile.title || "3-D"}${where}`, (box.left - area.left + 8) * ratio, (box.top - area.top + 8) * ratio);
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  hand(blob, `${viewer.meta.title.replace(/(\.nii\.gz|\.[a-z]{3,4}\d?)$/i, "")}.png`);
  return blob.size;
}
