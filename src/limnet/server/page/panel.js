// The panel at the right: objects, what to look at next, display, history.

import { $, el, icon } from "./dom.js";

export class Panel {
  constructor(viewer) {
    this.viewer = viewer;
    $("#add-object").replaceChildren(icon("plus"));
    $("#add-object").onclick = () => viewer.nextObject();
    $("#go-hint").onclick = () => viewer.goToHint();
    $("#accept").onclick = () => viewer.accept();
    $("#smaller").onclick = () => viewer.alternative(-1);
    $("#larger").onclick = () => viewer.alternative(1);
    const { look } = viewer;
    $("#opacity").value = Math.round(look.opacity * 100);
    $("#opacity").oninput = (event) => viewer.setLook({ opacity: event.target.value / 100 });
    for (const [id, name] of [["masks", "masks"], ["outline", "outline"], ["marks", "marks"], ["cross", "cross"]])
      $(`#show-${id}`).onchange = (event) => viewer.setLook({ [name]: event.target.checked });
    this.showLook();
  }

  showLook() {
    for (const name of ["masks", "outline", "marks", "cross"]) $(`#show-${name}`).checked = this.viewer.look[name];
    $("#opacity").value = Math.round(this.viewer.look.opacity * 100);
  }

  show() {
    this._objects();
    this._hint();
    this._history();
    for (const row of ["#objects .active", "#history .now"]) reveal($(row));
  }

  _objects() {
    const { viewer } = this;
    const list = $("#objects");
    if (list.querySelector("input.rename")) return; // somebody is typing
    const rows = viewer.state.objects.map((object, i) => this._row(object, i));
    if (!viewer.object) rows.push(this._newRow());
    list.replaceChildren(...rows);
  }

  /** The object that the first prompt will make. */
  _newRow() {
    const { viewer } = this;
    return el("li", { class: "active", "data-object": viewer.active },
      el("span", { class: "swatch", style: { background: viewer.colorOf(viewer.state.next) } }),
      el("span", { class: "name" }, el("small", {}, String(viewer.state.next)), viewer.active),
      el("span", { class: "ml" }, "new"),
    );
  }

  _row(object, i) {
    const { viewer } = this;
    const { name } = object;
    const active = name === viewer.active;
    const hidden = viewer.hidden.has(name);
    const button = (iconName, title, run) =>
      el("button", { class: "icon-button small", title, "aria-label": `${title}: ${name}`, onclick: (event) => { event.stopPropagation(); run(); } }, icon(iconName));
    return el(
      "li",
      { class: `${active ? "active" : ""} ${hidden ? "hidden-object" : ""}`, "data-object": name, onclick: () => viewer.choose(name), ondblclick: () => this.rename(name) },
      el("input", { class: "swatch", type: "color", value: object.color, title: "Colour", "aria-label": `Colour of ${name}`, onclick: (event) => event.stopPropagation(), onchange: (event) => viewer.edit("color", name, { color: event.target.value }) }),
      el("span", { class: "name", title: `${name}${object.finished ? " (locked)" : ""}` }, el("small", {}, String(object.label)), name),
      el("span", { class: "ml" },
        object.finished && el("span", { class: "flag", title: "Locked" }, icon("lock")),
        hidden && el("span", { class: "flag", title: "Hidden" }, icon("eye-off")),
        ` ${volumeText(object, viewer.volume.unit)}`),
      el("div", { class: "actions" },
        button(hidden ? "eye-off" : "eye", hidden ? "Show (Shift+V)" : "Hide (Shift+V)", () => viewer.toggleHidden(name)),
        button(object.finished ? "lock" : "unlock", object.finished ? "Unlock, to change it again" : "Lock: finished, nothing takes its voxels", () => viewer.edit(object.finished ? "reopen" : "finish", name)),
        button("target", "Go to it", () => viewer.jumpTo(name)),
        button("edit", "Rename", () => this.rename(name)),
        button("undo", "Reset: forget its prompts and mask (R)", () => viewer.resetObject(name)),
        button("trash", "Delete", () => viewer.deleteObject(name)),
      ),
    );
  }

  rename(name) {
    const row = [...$("#objects").children].find((li) => li.dataset.object === name);
    const label = row?.querySelector(".name");
    if (!label) return;
    const input = el("input", { class: "rename", type: "text", value: name, maxLength: 100, "aria-label": "New name" });
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      const to = input.value.trim();
      input.remove();
      if (keep && to && to !== name) this.viewer.edit("rename", name, { to });
      this.show();
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    };
    input.onblur = () => end(true);
    input.onclick = input.ondblclick = (event) => event.stopPropagation();
    label.replaceWith(input);
    input.focus();
    input.select();
  }

  /** Say why a slice was gone to, and draw the eye there. */
  tellHint(hint) {
    this._hint(hint);
    const section = $("#hint-section");
    section.classList.remove("flash");
    void section.offsetWidth; // starts the animation anew
    section.classList.add("flash");
  }

  _hint(told = null) {
    const { viewer } = this;
    const object = viewer.object;
    const hint = told || object?.hint;
    const text = $("#hint");
    text.className = "";
    $("#go-hint").disabled = !hint;
    $("#accept").disabled = !object || !object.rounds || object.finished;
    $("#alternatives").hidden = !object?.alternatives;
    if (object?.finished) text.replaceChildren("This object is locked. Unlock it to change it.");
    else if (!object?.rounds) text.replaceChildren("Scroll to a slice where the structure is large, and click in its middle.");
    else if (!hint) text.replaceChildren(el("b", {}, "Every slice was looked at."), " Save when you are done.");
    else if (hint.good && !told) {
      text.className = "good";
      text.replaceChildren(el("b", {}, "No slice is rated doubtful."), " Look through them once more. If they are right, you can stop and save.");
    } else {
      text.replaceChildren(el("b", {}, `Slice ${hint.index}: `), hint.reason);
      if (told) text.append(el("span", { class: "todo" }, "Something missing? Click it. Too much? Shift-click it. All right? Accept the slice (A). Then N again."));
    }
  }

  _history() {
    const { viewer } = this;
    const { done, undone, objects } = viewer.state;
    const color = Object.fromEntries(objects.map((object) => [object.name, object.color]));
    const row = (step, kind, steps) =>
      el("li", { class: kind }, el("button", { title: steps < 0 ? `Undo ${-steps} step${steps < -1 ? "s" : ""}` : steps ? `Redo ${steps} step${steps > 1 ? "s" : ""}` : "Where you are", onclick: () => steps && viewer.step(steps) },
        el("i", { style: { background: color[step.object] || "transparent" } }),
        el("span", {}, `${step.object}: ${step.text}`),
        el("small", {}, step.index === null ? "" : String(step.index))));
    const rows = [
      el("li", { class: done.length ? "" : "now" }, el("button", { title: `Undo everything`, onclick: () => done.length && viewer.step(-done.length) }, el("i"), el("span", {}, "Opened"))),
      ...done.map((step, i) => row(step, i === done.length - 1 ? "now" : "", i + 1 - done.length)),
      ...undone.map((step, i) => row(step, "undone", i + 1)),
    ];
    $("#history").replaceChildren(...rows);
    $("#undo").disabled = !done.length;
    $("#redo").disabled = !undone.length;
  }
}

/** Scroll a list, and nothing around it, until a row of it is in sight. */
function reveal(row) {
  if (!row) return;
  const list = row.parentNode;
  const [room, box] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
  list.scrollTop += Math.max(0, box.bottom - room.bottom) + Math.min(0, box.top - room.top);
}

function volumeText({ voxels, ml }, { name, per }) {
  if (!voxels) return "empty";
  if (name === "px") return `${voxels} voxels`;
  const cubes = ml * 1000 * per ** 3;
  return ml >= 100 ? `${Math.round(ml)} ml` : ml >= 1 ? `${ml.toFixed(1)} ml` : `${cubes.toFixed(cubes > 10 ? 0 : 1)} ${name}³`;
}
