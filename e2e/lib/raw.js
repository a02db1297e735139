// Raw connections, for bytes that no well-behaved client sends.
import { connect } from "node:net";
import { withheld } from "./process.js";

/** Opcodes of RFC 6455 */
export const OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A TCP connection that sends raw bytes and keeps everything received */
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

  /** All received bytes, as a Buffer */
  get received() {
    if (this.parts.length > 1) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0] ?? Buffer.alloc(0);
  }

  /** Received bytes as text, one character per byte */
  get answer() {
    return this.received.toString("latin1");
  }

  /** Sends bytes, or text in UTF-8. Resolves when the system has accepted them, or the connection is closed */
  write(bytes) {
    return new Promise((resolve) => {
      if (this.socket.destroyed || !this.socket.writable) resolve();
      else this.socket.write(bytes, () => resolve());
    });
  }

  /**
   * Waits until the condition holds; on timeout fails with the received bytes.
   *
   * Time withheld by other programs does not count.
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
    return this.until(() => this.ended, "no close by the server", within);
  }

  /** Next response of the server, after `skip` others */
  response({ within = 1000, skip = 0 } = {}) {
    return this.until(() => responses(this.received)[skip], "no HTTP response", within);
  }

  /** Fails unless the server answers with a status from 400 to 499 (or one of `statuses`), or closes */
  async refused({ within = 1000, statuses } = {}) {
    await this.until(() => this.ended || responses(this.received).length > 0, "neither rejected nor closed", within);
    const [answer] = responses(this.received);
    if (!answer) return { status: 0 };
    const fits = statuses ? statuses.includes(answer.status) : answer.status >= 400 && answer.status < 500;
    if (!fits) throw new Error(`answered with ${answer.status}: ${JSON.stringify(this.answer.slice(0, 300))}`);
    return answer;
  }

  /** Half-closes the connection and keeps receiving */
  finish() {
    this.socket.end();
  }

  /** Resets the connection */
  reset() {
    this.socket.resetAndDestroy();
  }

  /** Closes the connection */
  destroy() {
    this.socket.destroy();
  }

  changed() {
    for (const look of [...this.watchers]) look();
  }
}

/** Sets the server process, whose withheld time does not count */
export function judge(pid) {
  server = pid;
}

let server;

/** Time in which this program and the server were runnable but not running, in milliseconds */
const kept = () => withheld(...(server ? [server] : []));

/** Closes all open connections; resolves when they are closed */
export async function closeAll() {
  const closing = [...open].map(({ socket }) => new Promise((resolve) => socket.once("close", resolve)));
  for (const connection of open) connection.destroy();
  await Promise.all(closing);
}

/** A raw WebSocket: sends prepared frames, parses received ones */
export class RawWebSocket extends RawConnection {
  /** Connects and requests a WebSocket, with `early` right after the request. Resolves when it is open */
  static async open(server, path, { headers = [], early = [] } = {}) {
    const client = await super.open(server.port);
    await client.write(Buffer.concat([Buffer.from(upgradeRequest(path, headers)), ...early]));
    await client.until(() => client.received.includes("\r\n\r\n") || client.ended, "no response to the handshake");
    const [answer] = responses(client.received);
    if (answer?.status !== 101) throw new Error(`handshake failed: ${client.answer.slice(0, 300)}`);
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

  /** Sends frames in one write */
  send(...frames) {
    return this.write(Buffer.concat(frames));
  }

  /** Next received frame of this kind */
  async next(opcode = OPCODES.text, within = 1000) {
    const at = () => this.frames.findIndex((frame) => frame.opcode === opcode);
    await this.until(() => at() >= 0, `no frame with opcode ${opcode}`, within);
    return this.frames.splice(at(), 1)[0];
  }

  /** Next text */
  async text(within) {
    return (await this.next(OPCODES.text, within)).payload.toString();
  }

  /** Waits for the close; resolves to `{ code, reason }`, 1005 without a code, 1006 without a close frame */
  async untilClosed(within = 1000) {
    const isClose = (frame) => frame.opcode === OPCODES.close;
    await this.until(() => this.frames.some(isClose) || this.ended, "no close frame", within);
    const close = this.frames.find(isClose);
    if (!close) return { code: 1006, reason: "" };
    const { payload } = close;
    if (payload.length === 0) return { code: 1005, reason: "" };
    return { code: payload.readUInt16BE(0), reason: payload.toString("utf8", 2) };
  }
}

/** A client frame. `declared` overrides the length in its header, `mask: false` leaves it unmasked */
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

/** Frames of a text, such as a Socket.IO packet */
export const text = (payload) => frame(payload);

/** A frame of bytes */
export const binary = (payload = Buffer.of(1, 2, 3)) => frame(payload, { opcode: OPCODES.binary });

/** A WebSocket request. Given headers replace the defaults; `null` removes one */
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

/** Parses the complete HTTP responses at the start of some bytes: `{ status, headers, body, end }` */
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

/** Parses an unmasked server frame; undefined while it is incomplete */
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
