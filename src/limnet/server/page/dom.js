// Small helpers for the document: elements, icons, messages that come and go.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with properties ("class", "title", "onclick", "data-x", ...) and children (elements or text). */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node && !name.includes("-") && name !== "list") node[name === "class" ? "className" : name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  if (properties.class) node.className = properties.class;
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name, className = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", `icon ${className}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A message at the bottom of the page. Errors stay until they are closed; the rest leaves after a while. */
export function toast(text, { kind = "info", action = null, seconds = 5 } = {}) {
  const box = $("#toasts");
  const old = [...box.children].find((child) => child.dataset.text === text);
  if (old) old.remove();
  const close = () => node.remove();
  const node = el(
    "div",
    { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status", "data-text": text },
    el("span", {}, text),
    action && el("button", { class: "link", onclick: () => { close(); action.run(); } }, action.label),
    el("button", { class: "icon-button small", title: "Close this message", "aria-label": "Close this message", onclick: close }, icon("close")),
  );
  box.append(node);
  while (box.children.length > 4) box.firstChild.remove();
  if (kind !== "error") setTimeout(close, seconds * 1000);
  return close;
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A setting that outlives the page, in this browser only. */
export const remembered = {
  get(name, fallback) {
    try {
      const text = localStorage.getItem(`limnet.${name}`);
      return text === null ? fallback : JSON.parse(text);
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`limnet.${name}`, JSON.stringify(value));
    } catch { /* a browser that keeps nothing still works */ }
  },
};
