/**
 * The official `socket.io-client`, as the server serves it with `--serve-client`, with the methods of `client.js`.
 */

import { io } from "/socket.io/socket.io.esm.min.js";

/** Creates and connects a client; options and methods are those of `client.js` */
export function connectOfficial(options) {
  const client = new OfficialClient({ ackTimeout: 5000, connectTimeout: 10_000, minDelay: 500, maxDelay: 8000, ...options });
  client.connect();
  return client;
}

class OfficialClient {
  /** `connecting`, `connected`, `waiting` or `disconnected` */
  state = "disconnected";

  #socket;
  #attempt = 0;

  constructor(options) {
    this.options = options;
    this.#socket = io({
      autoConnect: false,
      forceNew: true, // otherwise several clients of the page would share a connection
      timeout: options.connectTimeout,
      reconnectionDelay: options.minDelay,
      reconnectionDelayMax: options.maxDelay,
      randomizationFactor: 0, // so that the delay shown is the real one
    });
    this.#socket.on("connect", () => this.#connected());
    this.#socket.on("disconnect", (reason) => this.#lost(reason));
    this.#socket.on("connect_error", (error) => this.#lost(error.message));
    this.#socket.onAny((event, ...args) => this.#received(event, args));
    this.#socket.io.on("reconnect_attempt", () => this.#setState("connecting", { attempt: this.#attempt }));
    this.#socket.io.on("open", () => this.#watch(this.#socket.io.engine));
  }

  connect() {
    if (this.state === "connecting" || this.state === "connected") return;
    this.#setState("connecting", { attempt: this.#attempt });
    this.#socket.disconnect(); // a reconnect that waits for its delay
    this.#socket.connect();
  }

  disconnect() {
    this.#socket.disconnect();
    if (this.state !== "disconnected") this.#stop("disconnected by the client");
  }

  /** Sends an event without an ack. Throws if not connected: the official client would buffer it */
  emit(event, ...args) {
    if (this.state !== "connected") throw new Error(`cannot send while ${this.state}`);
    this.#socket.emit(event, ...args);
  }

  /** Sends an event and resolves to the arguments of the ack */
  async request(event, ...args) {
    if (this.state !== "connected") throw new Error(`cannot send while ${this.state}`);
    return [await this.#socket.timeout(this.options.ackTimeout).emitWithAck(event, ...args)];
  }

  #connected() {
    this.#attempt = 0;
    this.#setState("connected", { id: this.#socket.id });
  }

  #lost(reason) {
    if (!this.#socket.active) return this.#stop(reason);
    const { minDelay, maxDelay } = this.options;
    const delay = Math.min(maxDelay, minDelay * 2 ** this.#attempt);
    this.#attempt += 1;
    this.#setState("waiting", { reason, attempt: this.#attempt, delay });
  }

  #stop(reason) {
    this.#attempt = 0;
    this.#setState("disconnected", { reason });
  }

  async #received(event, args) {
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const value = await this.options.onEvent?.(event, args);
    ack?.(...(value === undefined ? [] : [value]));
  }

  #watch(engine) {
    const wire = (direction) => (packet) => this.options.onWire?.(direction, packetText(packet));
    this.options.onTransport?.(engine.transport.name);
    engine.on("upgrade", ({ name }) => this.options.onTransport?.(name));
    engine.on("packet", wire("in"));
    engine.on("packetCreate", wire("out"));
  }

  #setState(state, detail) {
    this.state = state;
    this.options.onState?.(state, detail);
  }
}

/** An Engine.IO packet as on the wire; its type is a digit */
function packetText({ type, data = "" }) {
  if (typeof data !== "string") return data;
  return `${["open", "close", "ping", "pong", "message", "upgrade", "noop"].indexOf(type)}${data}`;
}
