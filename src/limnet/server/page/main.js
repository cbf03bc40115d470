// Starts the page: who are we, what to show, and a window for tests to look through.

import { $, el, remembered } from "./dom.js";
import { get, login } from "./link.js";
import { Start } from "./start.js";
import { Viewer } from "./viewer.js";
import { listenToKeys } from "./keys.js";

document.documentElement.dataset.theme = remembered.get("theme", "dark");

async function run() {
  let hello;
  try {
    await login();
    hello = await get("/api/hello");
  } catch (error) {
    document.body.replaceChildren(el("main", { id: "start" }, el("header", { class: "start-head" }, el("h1", {}, "limnet"), el("p", { role: "alert" }, error.message))));
    return;
  }
  const start = new Start(hello, (name) => viewer.open(name));
  const viewer = new Viewer(hello, start);
  listenToKeys(viewer);
  hook(viewer);
  window.addEventListener("hashchange", () => {
    const name = caseName();
    if (name && name !== viewer.session) viewer.open(name);
  });
  const wanted = caseName() || hello.start;
  if (wanted) await viewer.open(wanted);
  else await start.show();
}

function caseName() {
  const found = /case=([^&]+)/.exec(location.hash);
  return found ? decodeURIComponent(found[1]) : null;
}

/** What tests and benchmarks ask the page. */
function hook(viewer) {
  window.limnet = Object.freeze({
    get ready() {
      return viewer.ready && viewer.tiles.every((tile) => tile.width > 0);
    },
    state: () => ({
      ready: viewer.ready,
      busy: Boolean(viewer.state.busy),
      cross: viewer.cross,
      tool: viewer.tools.name,
      positive: viewer.tools.positive,
      solid: viewer.tools.solid,
      size: viewer.tools.size,
      active: viewer.active,
      rounds: viewer.rounds,
      done: viewer.state.done.length,
      undone: viewer.state.undone.length,
      window: viewer.volume?.window,
      look: { ...viewer.look },
      hidden: [...viewer.hidden],
      objects: viewer.state.objects.map(({ name, label, voxels, ml, finished, prompted, accepted, pending, rounds, color, hint, alternatives }) => ({ name, label, voxels, ml, finished, prompted, accepted, pending, rounds, color, hint, alternatives })),
      times: [...viewer.times],
      frames: viewer.frames,
      meshes: viewer.surface ? [...viewer.surface.meshes].map(([name, mesh]) => [name, mesh.triangles]) : [],
      draft: viewer.tools.draft?.kind || null,
      rule: viewer.tools.ruleMm,
      saved: $("#saved").textContent,
    }),
    /** Page coordinates of the middle of a voxel on a plane that shows it. */
    toPixel(plane, point) {
      const tile = viewer.tiles.find((t) => t.name === plane);
      const box = tile.overlay.getBoundingClientRect();
      const [x, y] = tile.pixelOf(point);
      return [box.left + x, box.top + y];
    },
    /** Colour on the screen at the middle of a voxel: [r, g, b]. */
    colorAt(plane, point) {
      const tile = viewer.tiles.find((t) => t.name === plane);
      const [x, y] = tile.pixelOf(point);
      return [...tile.context.getImageData(Math.round(x * tile.ratio), Math.round(y * tile.ratio), 1, 1).data].slice(0, 3);
    },
    draft: () => ({ lo: viewer.tools.draft?.lo, hi: viewer.tools.draft?.hi }),
    /** Voxels the page holds of each object; counts them all, so not for every moment. */
    shown: () => viewer.state.objects.map((object) => viewer.volume.count(object.label)),
    labelAt: (point) => viewer.volume.labels[viewer.volume.offset(point)],
    go: (point) => viewer.moveCross(point),
    measure: () => (viewer.measuring = true),
  });
}

run();
