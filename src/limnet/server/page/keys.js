// The keys annotators know, and the page that lists them.

import { $, el, icon } from "./dom.js";

const LIST = [
  ["Marking", [
    ["P", "click"], ["S", "scribble"], ["B", "box; again for a 3-D box"], ["L", "lasso"], ["D / X", "brush / eraser on a slice"],
    ["T", "object or not (+/−)"], ["Shift, right click", "the opposite for once"], ["[ ]", "brush size"], ["Enter", "carry hand-drawn slices through the volume; use a 3-D box"],
    [", .", "a smaller or larger answer to the last click"], ["Esc", "cancel the running round or what is being drawn; remove the ruler"],
  ]],
  ["Looking", [
    ["N", "look here next"], ["A", "accept this slice: it stays as it is"], ["PgUp / PgDn", "previous / next marked slice"], ["Wheel, ↑ ↓", "slices"],
    ["Ctrl + wheel", "zoom"], ["Middle button, Space + drag", "move the picture"], ["Right drag", "window: brightness and contrast"], ["F", "fit"],
    ["Shift + move", "all planes follow the pointer"], ["C", "crosshair"], ["K", "ruler"], ["O  G  H", "outline, markers, crosshair on or off"],
  ]],
  ["Objects", [
    ["E or M", "next object"], ["1 – 9", "choose the object with that label"], ["Alt + click", "choose the object under the pointer"], ["R", "reset the object"], ["Delete", "delete the object"], ["Double click", "rename it, in the list"],
    ["V", "show or hide masks"], ["Shift + V", "show or hide this object"],
  ]],
  ["Steps", [["Ctrl + Z", "undo"], ["Ctrl + Shift + Z, Ctrl + Y", "redo"], ["Ctrl + S", "save"], ["?", "this list"]]],
];

export function showHelp() {
  $("#help header button").replaceChildren(icon("close"));
  $("#keys").replaceChildren(...LIST.map(([title, keys]) =>
    el("section", {}, el("h3", {}, title), el("dl", {}, ...keys.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])))));
  const dialog = $("#help");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

/** Connects the keyboard to a viewer. */
export function listenToKeys(viewer) {
  const { tools } = viewer;
  const plain = {
    p: () => tools.choose("point"), s: () => tools.choose("scribble"), b: () => tools.choose("box"), l: () => tools.choose("lasso"),
    d: () => tools.choose("brush"), x: () => tools.choose("eraser"), c: () => tools.choose("cross"), k: () => tools.choose("ruler"),
    t: () => tools.toggleSign(), r: () => viewer.resetObject(viewer.active), e: () => viewer.nextObject(), m: () => viewer.nextObject(),
    v: () => viewer.setLook({ masks: !viewer.look.masks }), o: () => viewer.setLook({ outline: !viewer.look.outline }),
    g: () => viewer.setLook({ marks: !viewer.look.marks }), h: () => viewer.setLook({ cross: !viewer.look.cross }),
    n: () => viewer.goToHint(), a: () => viewer.accept(), f: () => viewer.tiles.forEach((tile) => tile.fit()),
    "[": () => tools.resizeBrush(-1), "]": () => tools.resizeBrush(1), ",": () => viewer.alternative(-1), ".": () => viewer.alternative(1),
    "?": () => showHelp(), enter: () => tools.applyBox() || viewer.propagate(),
    escape: () => tools.cancelDraft() || viewer.cancel() || tools.dropRule(),
    arrowup: () => viewer.scroll(viewer.pointed, -1), arrowdown: () => viewer.scroll(viewer.pointed, 1),
    arrowleft: () => viewer.scroll(viewer.pointed, -1), arrowright: () => viewer.scroll(viewer.pointed, 1),
    pageup: () => viewer.jumpMarked(-1), pagedown: () => viewer.jumpMarked(1),
    delete: () => viewer.deleteObject(viewer.active),
    " ": () => {},
  };
  window.addEventListener("keydown", (event) => {
    if ($("#viewer").hidden || $("dialog[open]") || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range") return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      const run = { z: () => viewer.step(event.shiftKey ? 1 : -1), y: () => viewer.step(1), s: () => viewer.saveDialog.show() }[key];
      if (!run) return;
      event.preventDefault();
      run();
      return;
    }
    if (event.altKey) return;
    if (key === " ") tools.space = true;
    const run = key === "v" && event.shiftKey ? () => viewer.toggleHidden(viewer.active) : /^[1-9]$/.test(key) ? () => viewer.chooseNumber(Number(key)) : plain[key];
    if (!run) return;
    if ((key === "enter" || key === " ") && event.target.tagName === "BUTTON") return;
    event.preventDefault();
    run();
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") tools.space = false;
  });
  window.addEventListener("blur", () => (tools.space = false));
}
