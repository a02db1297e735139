// A WebSocket client that never misses a message, on the `ws` package.
import WebSocket from "ws";
import { PATIENCE } from "./patience.js";

/** An open WebSocket that queues received messages */
export class WebSocketClient {
  /** Resolves when the handshake is done; rejects with the server's response if it is rejected */
  static async open(url, options) {
    const attempt = await tryOpen(url, options);
    if (attempt.client) return attempt.client;
    throw new Error(`${url}: rejected with ${attempt.status} ${attempt.body}`);
  }

  constructor(socket) {
    this.socket = socket;
    this.waiting = [];
    this.wanted = [];
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.closed.then((how) => {
      this.ended = how;
      this.wanted.splice(0).forEach(({ reject }) => reject(new Error(`closed with ${how.code} instead of a message`)));
    });
    socket.on("error", () => {});
    socket.on("message", (data, binary) => {
      const message = binary ? data : data.toString();
      const asked = this.wanted.shift();
      if (asked) asked.resolve(message);
      else this.waiting.push(message);
    });
  }

  /** The selected subprotocol, or an empty string */
  get protocol() {
    return this.socket.protocol;
  }

  /** Next message, a string or a Buffer */
  async next({ within = PATIENCE } = {}) {
    if (this.waiting.length > 0) return this.waiting.shift();
    if (this.ended) throw new Error(`closed with ${this.ended.code} instead of a message`);
    const arrival = new Promise((resolve, reject) => this.wanted.push({ resolve, reject }));
    return inTime(arrival, within, "no message");
  }

  /** Resolves to `{ code, reason }` when the socket is closed */
  async untilClosed({ within = PATIENCE } = {}) {
    return inTime(this.closed, within, `still open; waiting messages: ${JSON.stringify(this.waiting)}`);
  }

  /** Sends strings as text messages and everything else as binary ones */
  send(...messages) {
    for (const message of messages) this.socket.send(message);
  }

  /** Closes with the close handshake */
  close(code, reason) {
    this.socket.close(code, reason);
    return this.untilClosed();
  }

  /** Cuts the TCP connection */
  terminate() {
    this.socket.terminate();
  }
}

/**
 * Tries to open a WebSocket. Resolves to `{ client }`, or to the rejection: `{ status, headers, body }`.
 *
 * A response that is not HTTP gives `{ status: 0 }`.
 */
export function tryOpen(url, { protocols = [], headers = {} } = {}) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url.replace(/^http/, "ws"), protocols, { headers, perMessageDeflate: false });
    const client = new WebSocketClient(socket);
    socket.once("open", () => resolve({ client }));
    socket.once("error", (error) => resolve({ status: 0, headers: {}, body: error.message }));
    socket.once("unexpected-response", (_request, response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (body += part));
      response.on("close", () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
  });
}

/** Fails unless the server rejects the WebSocket, or accepts and closes it */
export async function turnedAway(url, options) {
  const attempt = await tryOpen(url, options);
  if (attempt.client) await attempt.client.untilClosed();
  return attempt;
}

/** The promise's value, or on timeout a failure with this message */
export function inTime(promise, within, missing) {
  let late;
  const timeout = new Promise((_, reject) => {
    late = setTimeout(() => reject(new Error(`${missing} within ${within} ms`)), within);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(late));
}
