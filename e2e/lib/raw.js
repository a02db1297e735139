// Connections on which every byte is the test's own, for what no well-meaning client would send.
import { connect } from "node:net";
import { withheld } from "./process.js";

/** The kinds of frames, as RFC 6455 numbers them */
export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A TCP connection: bytes go out as they are, and everything that comes back is kept */
export class RawConnection {
  /** Resolves once it is connected */
  static open(port, options) {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new this(socket, options));
      });
    });
  }

  constructor(socket) {
    this.socket = socket;
    this.parts = [];
    this.size = 0;
    this.ended = false;
    this.watchers = new Set();
    open.add(this);
    socket.once("close", () => open.delete(this));
    socket.on("data", (part) => {
      this.parts.push(part);
      this.size += part.length;
      this.changed();
    });
    for (const event of ["end", "close", "error"]) {
      socket.on(event, (error) => {
        this.ended ||= event;
        this.error ??= event === "error" ? error.code : undefined;
        this.changed();
      });
    }
  }

  /** All bytes that came, as a Buffer */
  get received() {
    if (this.parts.length > 1) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0] ?? Buffer.alloc(0);
  }

  /** The same as text, one character for each byte */
  get answer() {
    return this.received.toString("latin1");
  }

  /** Sends bytes, or text in UTF-8. Resolves when the system has taken them; a connection that is gone takes all */
  write(bytes) {
    return new Promise((resolve) => {
      if (this.socket.destroyed || !this.socket.writable) resolve();
      else this.socket.write(bytes, () => resolve());
    });
  }

  /**
   * Waits until the condition holds; fails with what came instead when it takes too long.
   *
   * Time for which other programs keep this one or the server from running does not count.
   */
  until(condition, missing, within = 1000) {
    return new Promise((resolve, reject) => {
      let late;
      const look = () => {
        const value = condition();
        if (!value) return;
        clearTimeout(late);
        this.watchers.delete(look);
        resolve(value);
      };
      const began = performance.now();
      const before = kept();
      const giveUp = () => {
        const left = within + (kept() - before) - (performance.now() - began);
        if (left > 1) return (late = setTimeout(giveUp, left));
        this.watchers.delete(look);
        const got = JSON.stringify(this.answer.slice(0, 300));
        reject(new Error(`${missing} within ${within} ms; received ${this.size} bytes: ${got}`));
      };
      late = setTimeout(giveUp, within);
      this.watchers.add(look);
      look();
    });
  }

  /** Resolves once the server has ended its side, or reset the connection */
  untilEnded(within = 1000) {
    return this.until(() => this.ended, "the server did not hang up", within);
  }

  /** The next answer of the server. `skip` so many before it */
  response({ within = 1000, skip = 0 } = {}) {
    return this.until(() => responses(this.received)[skip], "no HTTP answer", within);
  }

  /** Fails unless the server answers with a status from 400 to 499 (or one of `statuses`), or hangs up */
  async refused({ within = 1000, statuses } = {}) {
    await this.until(() => this.ended || responses(this.received).length > 0, "neither refused nor closed", within);
    const [answer] = responses(this.received);
    if (!answer) return { status: 0 };
    const fits = statuses ? statuses.includes(answer.status) : answer.status >= 400 && answer.status < 500;
    if (!fits) throw new Error(`answered with ${answer.status}: ${JSON.stringify(this.answer.slice(0, 300))}`);
    return answer;
  }

  /** Says that nothing more will be sent, and goes on listening */
  finish() {
    this.socket.end();
  }

  /** Cuts the connection with a reset instead of an end */
  reset() {
    this.socket.resetAndDestroy();
  }

  /** Closes it */
  destroy() {
    this.socket.destroy();
  }

  changed() {
    for (const look of [...this.watchers]) look();
  }
}

/** Names the server that answers, so that it is not blamed for what other programs take */
export function judge(pid) {
  server = pid;
}

let server;

/** Milliseconds for which this program and the server were ready to run and did not */
const kept = () => withheld(...(server ? [server] : []));

/** Closes all that are open, and resolves when they are */
export async function closeAll() {
  const closing = [...open].map(({ socket }) => new Promise((resolve) => socket.once("close", resolve)));
  for (const connection of open) connection.destroy();
  await Promise.all(closing);
}

/** A WebSocket by hand: its frames go out as the test made them, those that come are taken apart */
export class RawWebSocket extends RawConnection {
  /** Connects and asks for a WebSocket, with `early` right behind the request. Resolves when it is open */
  static async open(server, path, { headers = [], early = [] } = {}) {
    const client = await super.open(server.port);
    await client.write(Buffer.concat([Buffer.from(upgradeRequest(path, headers)), ...early]));
    await client.until(() => client.received.includes("\r\n\r\n") || client.ended, "no answer to the handshake");
    const [answer] = responses(client.received);
    if (answer?.status !== 101) throw new Error(`the handshake got ${client.answer.slice(0, 300)}`);
    client.handshake = answer;
    client.taken = answer.end;
    client.frames = [];
    client.changed();
    return client;
  }

  changed() {
    if (this.frames) {
      const bytes = this.received;
      for (;;) {
        const next = readFrame(bytes, this.taken);
        if (!next) break;
        this.taken = next.end;
        this.frames.push(next);
      }
    }
    super.changed();
  }

  /** Sends frames as one write */
  send(...frames) {
    return this.write(Buffer.concat(frames));
  }

  /** The next frame of this kind, taken out of those that wait */
  async next(opcode = OPCODES.text, within = 1000) {
    const at = () => this.frames.findIndex((frame) => frame.opcode === opcode);
    await this.until(() => at() >= 0, `no frame of kind ${opcode}`, within);
    return this.frames.splice(at(), 1)[0];
  }

  /** The next text */
  async text(within) {
    return (await this.next(OPCODES.text, within)).payload.toString();
  }

  /** Waits for the end and resolves to the close frame's `{ code, reason }`, 1005 for one without, 1006 for none */
  async untilClosed(within = 1000) {
    const isClose = (frame) => frame.opcode === OPCODES.close;
    await this.until(() => this.frames.some(isClose) || this.ended, "the server did not close", within);
    const close = this.frames.find(isClose);
    if (!close) return { code: 1006, reason: "" };
    const { payload } = close;
    if (payload.length === 0) return { code: 1005, reason: "" };
    return { code: payload.readUInt16BE(0), reason: payload.toString("utf8", 2) };
  }
}

/** A frame as a client sends it. `declared` puts another length into its header, `mask: false` sends it unmasked */
export function frame(payload = "", { opcode = OPCODES.text, fin = true, rsv = 0, mask = true, declared } = {}) {
  const body = Buffer.from(payload);
  const head = Buffer.alloc(14);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const length = BigInt(declared ?? body.length);
  let at = 2;
  let short = 127;
  if (length < 126n) short = Number(length);
  else if (length < 65536n) {
    short = 126;
    at = head.writeUInt16BE(Number(length), 2);
  } else at = head.writeBigUInt64BE(length, 2);
  head[1] = (mask ? 0x80 : 0) | short;
  if (!mask) return Buffer.concat([head.subarray(0, at), body]);
  MASK.copy(head, at);
  for (let index = 0; index < body.length; index += 1) body[index] ^= MASK[index & 3];
  return Buffer.concat([head.subarray(0, at + 4), body]);
}

/** The frames of a text, e.g. of a Socket.IO packet */
export const text = (payload) => frame(payload);

/** A frame of bytes */
export const binary = (payload = Buffer.of(1, 2, 3)) => frame(payload, { opcode: OPCODES.binary });

/** A request for a WebSocket. A header that is given replaces the usual one; `null` leaves it out */
export function upgradeRequest(path, headers = []) {
  const given = new Map(headers.map(([name]) => [name.toLowerCase(), name]));
  const usual = [
    ["Host", "localhost"],
    ["Upgrade", "websocket"],
    ["Connection", "Upgrade"],
    ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
    ["Sec-WebSocket-Version", "13"],
  ].filter(([name]) => !given.has(name.toLowerCase()));
  return httpRequest("GET", path, [...usual, ...headers.filter(([, value]) => value !== null)]);
}

/** A request as text, with exactly these headers */
export function httpRequest(method, path, headers = [["Host", "localhost"]], body = "") {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `${method} ${path} HTTP/1.1\r\n${lines}\r\n${body}`;
}

/** The complete HTTP answers at the beginning of some bytes: `{ status, headers, body, end }` */
export function responses(bytes) {
  const found = [];
  let at = 0;
  while (at < bytes.length) {
    const headEnd = bytes.indexOf("\r\n\r\n", at);
    if (headEnd < 0) break;
    const [first, ...lines] = bytes.toString("latin1", at, headEnd).split("\r\n");
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1]);
    if (!status) break;
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const end = headEnd + 4 + (status === 101 ? 0 : Number(headers["content-length"] ?? 0));
    if (end > bytes.length) break;
    found.push({ status, headers, body: bytes.toString("utf8", headEnd + 4, end), end });
    if (status === 101) break;
    at = end;
  }
  return found;
}

const open = new Set();
const MASK = Buffer.of(0x37, 0xfa, 0x21, 0x3d);

/** A frame of the server, which is unmasked; none while it is incomplete */
function readFrame(bytes, at) {
  if (bytes.length < at + 2) return undefined;
  let length = bytes[at + 1] & 0x7f;
  let begin = at + 2;
  if (length === 126) {
    if (bytes.length < at + 4) return undefined;
    length = bytes.readUInt16BE(at + 2);
    begin = at + 4;
  } else if (length === 127) {
    if (bytes.length < at + 10) return undefined;
    length = Number(bytes.readBigUInt64BE(at + 2));
    begin = at + 10;
  }
  const end = begin + length;
  if (bytes.length < end) return undefined;
  return { opcode: bytes[at] & 0x0f, fin: bytes[at] >= 0x80, payload: bytes.subarray(begin, end), end };
}
