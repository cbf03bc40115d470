// The first page: files of the folder, sessions to go on with, and a CT to try.

import { $, el, icon, toast } from "./dom.js";
import { get, post } from "./link.js";

export class Start {
  constructor(hello, open) {
    this.hello = hello;
    this.open = open; // called with the name of a session or case
    $("#demo").onclick = () => this.choose($("#demo"), () => post("/api/demo"));
  }

  async show(path = "") {
    $("#viewer").hidden = true;
    $("#start").hidden = false;
    await Promise.all([this.list(path), this.recent()]);
  }

  /** Open something: the button says so and the page waits. */
  async choose(button, work) {
    if (this.busy) return;
    this.busy = true;
    const label = [...button.childNodes];
    button.disabled = true;
    button.prepend(el("span", { class: "opening" }, "Opening … "));
    try {
      const { name } = await work();
      this.open(name);
    } catch (error) {
      toast(error.message, { kind: "error" });
    } finally {
      this.busy = false;
      button.disabled = false;
      button.replaceChildren(...label);
    }
  }

  async list(path) {
    let found;
    try {
      found = await get(`/api/files?path=${encodeURIComponent(path)}`);
    } catch (error) {
      toast(error.message, { kind: "error" });
      if (path) await this.list("");
      return;
    }
    this.path = found.path;
    const parts = found.path ? found.path.split("/") : [];
    $("#crumbs").replaceChildren(
      el("button", { onclick: () => this.list("") }, found.root),
      ...parts.flatMap((part, i) => [" / ", el("button", { onclick: () => this.list(parts.slice(0, i + 1).join("/")) }, part)]),
    );
    const rows = found.entries.map((entry) => this._entry(entry));
    if (found.series && found.path) rows.unshift(this._entry({ kind: "series", name: `all images of ${parts[parts.length - 1]}`, path: found.path, size: null }));
    if (!rows.length) rows.push(el("li", { class: "empty" }, "No volumes here. limnet reads NIfTI, NRRD, MHA, NumPy files, DICOM and folders of pictures."));
    if (found.more) rows.push(el("li", { class: "empty" }, `${found.more} more entries are not shown`));
    $("#files").replaceChildren(...rows);
  }

  _entry({ kind, name, path, size }) {
    const names = { folder: "folder", series: "volume", volume: "volume", session: "session" };
    const note = kind === "folder" ? "" : kind === "series" ? "series" : kind === "session" ? "session" : bytes(size);
    const button = el("button", { class: "entry", onclick: () => (kind === "folder" ? this.list(path) : this.choose(button, () => openVolume({ path }))) }, icon(names[kind]), el("b", {}, name), el("small", {}, note));
    const row = el("li", {}, button);
    if (kind === "series") row.append(el("button", { class: "icon-button small", title: `Look into ${name}`, "aria-label": `Look into ${name}`, onclick: () => this.list(path) }, icon("folder")));
    return row;
  }

  async recent() {
    const { sessions } = await get("/api/recent");
    const rows = sessions.map((session) => {
      const { name, title, objects, steps, changed, missing } = session;
      const what = missing ? "its volume is gone from where it was" : `${objects.join(", ") || "nothing marked"} · ${steps} step${steps === 1 ? "" : "s"} · ${ago(changed)}`;
      const button = el("button", { class: "entry", disabled: missing, onclick: () => this.choose(button, () => post("/api/resume", { name })) }, icon("session"), el("span", { class: "two" }, el("b", {}, title), el("small", {}, what)));
      const forget = el("button", { class: "icon-button small", title: "Delete this session", "aria-label": `Delete the session of ${title}`, onclick: async () => {
        if (!(await ask(`Delete the session of ${title} (${objects.join(", ") || "nothing marked"})? Masks that you saved stay.`, "Delete"))) return;
        await post("/api/forget", { name }).catch((error) => toast(error.message, { kind: "error" }));
        this.recent();
      } }, icon("trash"));
      return el("li", {}, button, forget);
    });
    if (!rows.length) rows.push(el("li", { class: "empty" }, "Every step you make is kept here, so that you can go on at any time."));
    $("#recent").replaceChildren(...rows);
  }
}

/** Open a file; where it holds several volumes the user is asked for one. */
async function openVolume(body) {
  try {
    return await post("/api/open", body);
  } catch (error) {
    if (!error.choose || body[error.choose] !== undefined) throw error;
    if (error.choose === "gaps") {
      if (!(await ask(`${error.message}`, "Fill the gaps"))) throw error;
      return openVolume({ ...body, gaps: "resample" });
    }
    const answer = await askText(error.message, error.choose === "index" ? "0" : "");
    if (answer === null) throw error;
    const number = Number(answer);
    return openVolume({ ...body, [error.choose]: error.choose === "index" && Number.isInteger(number) ? number : answer });
  }
}

/** A question answered with a line of text; null if it was not. */
async function askText(text, value) {
  const input = $("#ask-input");
  input.hidden = false;
  input.value = value;
  const yes = await ask(text, "Open");
  input.hidden = true;
  return yes && input.value.trim() ? input.value.trim() : null;
}

/** A question with two answers; resolves to whether the answer was yes. */
export function ask(text, yes) {
  const dialog = $("#ask");
  $("#ask-text").textContent = text;
  $("#ask-yes").textContent = yes;
  dialog.returnValue = "";
  $("#ask-no").onclick = () => dialog.close();
  dialog.showModal();
  if (!$("#ask-input").hidden) $("#ask-input").select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function bytes(size) {
  if (size === null || size === undefined) return "";
  return size >= 1e6 ? `${(size / 1e6).toFixed(size >= 1e7 ? 0 : 1)} MB` : `${Math.max(1, Math.round(size / 1e3))} kB`;
}

function ago(seconds) {
  const minutes = Math.round((Date.now() / 1000 - seconds) / 60);
  if (minutes < 2) return "just now";
  if (minutes < 60) return `${minutes} minutes ago`;
  if (minutes < 60 * 36) return `${Math.round(minutes / 60)} hours ago`;
  return new Date(seconds * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}
