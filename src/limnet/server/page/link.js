// The line to the server: login, plain requests, and one WebSocket for commands, results and mask patches.

let bearer = null; // only where the browser keeps no cookie for us (a frame in a notebook)

export class ServerError extends Error {
  constructor(message, status, choose = null) {
    super(message);
    this.status = status;
    this.choose = choose; // the option that would choose among several volumes
  }
}

/** Trade the token of the address (after #) for a cookie. The fragment never leaves the browser by itself. */
export async function login() {
  const found = /[#&]t=([\w-]+)/.exec(location.hash);
  if (!found) return;
  const rest = location.hash.slice(1).split("&").filter((part) => !part.startsWith("t=")).join("&");
  history.replaceState(null, "", location.pathname + (rest ? `#${rest}` : ""));
  const answer = await fetch("/api/login", { method: "POST", headers: { Authorization: `Bearer ${found[1]}` } });
  if (!answer.ok) return;
  const { key } = await answer.json();
  if (key && (await fetch("/api/hello")).status === 401) bearer = key;
}

function headers() {
  return bearer ? { Authorization: `Bearer ${bearer}` } : {};
}

export async function request(path, body) {
  let answer;
  try {
    answer = await fetch(path, body === undefined
      ? { headers: headers() }
      : { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify(body) });
  } catch {
    throw new ServerError("limnet does not answer. Is `limnet view` still running? Start it again in the same folder: nothing is lost", 0);
  }
  if (!answer.ok) {
    let said = {};
    try {
      said = await answer.json();
    } catch { /* no JSON: the number has to do */ }
    throw new ServerError(said.error || `the server answered ${answer.status}`, answer.status, said.choose);
  }
  return answer;
}

export const get = async (path) => (await request(path)).json();
export const post = async (path, body = {}) => (await request(path, body)).json();

const SMALL = 4e6; // bytes that come at once anyway

/** Read a body piece by piece into an array made beforehand; tells the share that came. */
export async function download(path, bytes, onShare) {
  const answer = await request(path);
  if (bytes < SMALL) return new Uint8Array(await answer.arrayBuffer());
  const result = new Uint8Array(bytes);
  const reader = answer.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > bytes) throw new ServerError("the server sent more voxels than it announced", 0);
    result.set(value, at);
    at += value.length;
    onShare(at / bytes);
  }
  if (at !== bytes) throw new ServerError("the connection broke while the volume was loading: reload the page", 0);
  return result;
}

/** Undo zlib; `size` is the expected length. */
export async function inflate(data, size) {
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const result = new Uint8Array(size);
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    result.set(value, at);
    at += value.length;
  }
  return result;
}

/** The WebSocket of one session. Messages are handled strictly in order; it comes back by itself when it breaks. */
export class Channel {
  constructor(session, { onText, onBinary, onState }) {
    this.session = session;
    this.handlers = { onText, onBinary, onState };
    this.waiting = new Map();
    this.number = 0;
    this.queue = Promise.resolve();
    this.closed = false;
    this.delay = 500;
    this.connect();
  }

  connect() {
    const protocols = bearer ? ["limnet", `key.${bearer}`] : ["limnet"];
    const socket = new WebSocket(`ws://${location.host}/api/cases/${this.session}/channel`, protocols);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let welcome = false;
    socket.onmessage = ({ data }) => {
      if (!welcome) { // a server that refuses us opens the line, too, but sends nothing
        welcome = true;
        this.delay = 500;
        this.handlers.onState("open");
      }
      this.queue = this.queue.then(() => this.handle(data)).catch((error) => console.warn(error));
    };
    socket.onclose = (event) => {
      for (const { reject } of this.waiting.values()) reject(new ServerError("the connection to limnet broke; the last step may not have been made", 0));
      this.waiting.clear();
      if (this.closed) return;
      this.handlers.onState(event.code === 1008 || event.code === 4401 ? "refused" : event.code === 4404 ? "gone" : "lost");
      setTimeout(() => this.closed || this.connect(), this.delay);
      this.delay = Math.min(this.delay * 1.6, 5000);
    };
  }

  async handle(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      const waiting = message.id !== undefined && this.waiting.get(message.id);
      if (waiting) {
        this.waiting.delete(message.id);
        if (message.error) waiting.reject(new ServerError(message.error, message.status || 400));
        else waiting.resolve(message);
        return;
      }
      await this.handlers.onText(message);
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    await this.handlers.onBinary(header, new Uint8Array(data, 4 + length));
  }

  /** Ask for something; resolves with the answer, rejects with a ServerError whose text a person can read. */
  ask(command) {
    if (this.socket.readyState !== WebSocket.OPEN)
      return Promise.reject(new ServerError("not connected to limnet: trying again. Nothing was lost", 0));
    const id = ++this.number;
    this.socket.send(JSON.stringify({ id, ...command }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}
