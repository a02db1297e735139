/**
 * A small, readable Roomcast client: Socket.IO, plain WebSocket and JSON over WebSocket behind one API.
 *
 *     import { connect } from "./client.js";
 *
 *     const client = connect("upgraded", {
 *       onEvent: (event, args) => console.log(event, ...args),
 *       onState: (state, detail) => console.log(state, detail),
 *     });
 *     const [answer] = await client.request("join", "red"); // once connected
 *     client.emit("everyone", "hello");
 *
 * In order: the client and its lifecycle, three protocols, two carriers. For production use socket.io-client;
 * this one has no namespaces other than `/`, no sending of binary, and no recovery.
 */

const KINDS = {
  // Socket.IO over long-polling, over WebSocket, or over long-polling with an upgrade
  polling: (options) => new SocketIoClient({ ...options, transports: ["polling"] }),
  websocket: (options) => new SocketIoClient({ ...options, transports: ["websocket"] }),
  upgraded: (options) => new SocketIoClient({ ...options, transports: ["polling", "websocket"] }),
  // WebSocket at `/ws`: bare frames without a protocol, or JSON arrays with acks
  plain: (options) => new PlainClient(options),
  "roomcast.json": (options) => new JsonClient(options),
};

/**
 * Creates a client of one of the kinds above and connects it.
 *
 * Options:
 * - `url`: origin of the server; default: the page's own
 * - `ackTimeout`: timeout of a `request` in milliseconds; default 5000
 * - `connectTimeout`: timeout of a connection attempt in milliseconds; default 10000
 * - `minDelay`, `maxDelay`: first and longest reconnect delay in milliseconds; default 500 and 8000
 * - `onEvent(event, args)`: an event from the server; the return value is the ack, if requested
 * - `onState(state, detail)`: `connecting`, `connected` {id}, `waiting` {reason, attempt, delay} before the next
 *   attempt, `disconnected` {reason}
 * - `onTransport(name)`: `polling` or `websocket`, called again after an upgrade
 * - `onWire(direction, data)`: every packet on the wire; `direction` is `in` or `out`
 */
export function connect(kind, options = {}) {
  if (!Object.hasOwn(KINDS, kind)) throw new Error(`unknown kind "${kind}"; expected one of: ${Object.keys(KINDS).join(", ")}`);
  const client = KINDS[kind](options);
  client.connect();
  return client;
}

/** Common to all clients: state, acks, attachments and reconnects */
class Client {
  /** `connecting`, `connected`, `waiting` or `disconnected` */
  state = "disconnected";

  #link = null;
  #timer = 0; // after the connect timeout, or after the reconnect delay
  #attempt = 0;
  #nextAck = 0;
  #acks = new Map();
  #partial = null; // a packet that waits for attachments

  constructor(options) {
    this.options = { url: globalThis.location?.origin, ...TIMES, ...options };
  }

  /** Connects now, without waiting for the reconnect delay. Does nothing if connecting or connected */
  connect() {
    if (this.state === "connecting" || this.state === "connected") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost("connect timeout"), this.options.connectTimeout);
    this.#setState("connecting", { attempt: this.#attempt });
    this.#link = this.openLink({
      opened: () => this.linkOpened?.(),
      message: (data) => this.#received(data),
      closed: (reason) => this.#lost(reason),
      transport: (name) => this.options.onTransport?.(name),
      wire: (direction, data) => this.options.onWire?.(direction, data),
    });
  }

  /** Disconnects until `connect` is called */
  disconnect() {
    if (this.state === "connected") this.sayGoodbye?.();
    this.stop("disconnected by the client");
  }

  /** Sends an event without an ack. Throws if not connected: events are not buffered */
  emit(event, ...args) {
    this.#sendEvent(event, args);
  }

  /** Sends an event and resolves to the arguments of the ack; rejects on timeout or a lost connection */
  async request(event, ...args) {
    const ack = this.#nextAck++;
    this.#sendEvent(event, args, ack);
    return new Promise((resolve, reject) => {
      this.#acks.set(ack, { resolve, reject });
      setTimeout(() => this.settle(ack, "reject", new Error("ack timeout")), this.options.ackTimeout);
    });
  }

  // The following methods are for the protocols below.

  send(data) {
    this.#link.send(data);
  }

  accepted(id) {
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.#setState("connected", { id });
  }

  // The next `count` binary messages belong to `body`, in order; then it is complete.
  collect(count, body, whole) {
    if (count > 0) this.#partial = { count, body, whole, attachments: [] };
    else whole(body);
  }

  async delivered(event, args, answer) {
    const value = await this.options.onEvent?.(event, args);
    if (answer && this.state === "connected") answer(value === undefined ? [] : [value]);
  }

  // Late acks are dropped.
  settle(ack, outcome, value) {
    this.#acks.get(ack)?.[outcome](value);
    this.#acks.delete(ack);
  }

  stop(reason) {
    this.#leave(reason);
    this.#attempt = 0;
    this.#setState("disconnected", { reason });
  }

  #received(data) {
    try {
      if (!this.#partial) return this.decode(data);
      if (typeof data === "string") throw new Error("text where an attachment was due");
      const { count, body, whole, attachments } = this.#partial;
      if (attachments.push(data) < count) return;
      this.#partial = null;
      whole(fillPlaceholders(body, attachments));
    } catch (error) {
      this.#lost(`unreadable packet: ${error.message}`);
    }
  }

  #lost(reason) {
    this.#leave(reason);
    const { minDelay, maxDelay } = this.options;
    const delay = Math.min(maxDelay, minDelay * 2 ** this.#attempt) * (0.75 + Math.random() / 4); // jitter
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#setState("waiting", { reason, attempt: this.#attempt, delay });
  }

  #leave(reason) {
    clearTimeout(this.#timer);
    this.#link?.close();
    this.#link = this.#partial = null;
    for (const ack of [...this.#acks.keys()]) this.settle(ack, "reject", new Error(reason));
  }

  #sendEvent(event, args, ack) {
    if (this.state !== "connected") throw new Error(`cannot send while ${this.state}`);
    this.send(this.encode(event, args, ack));
  }

  #setState(state, detail) {
    this.state = state;
    this.options.onState?.(state, detail);
  }
}

/** Socket.IO v5 on the namespace `/`, over Engine.IO v4 */
class SocketIoClient extends Client {
  openLink(handlers) {
    return new EngineLink(this.options.url, this.options.transports, handlers);
  }

  linkOpened() {
    this.send(SIO.CONNECT);
  }

  sayGoodbye() {
    this.send(SIO.DISCONNECT);
  }

  encode(event, args, ack = "") {
    return `${SIO.EVENT}${ack}${JSON.stringify([event, ...args])}`;
  }

  decode(data) {
    // <type>[<attachments>-][<namespace>,][<ack id>][<json>]
    const parts = typeof data === "string" && /^([0-6])(?:(\d+)-)?(?:(\/[^,]*),?)?(\d*)(.*)$/s.exec(data);
    if (!parts) throw new Error("not a Socket.IO packet");
    const [, type, count = "0", namespace = "/", ack, json] = parts;
    this.collect(Number(count), json ? JSON.parse(json) : undefined, (body) => {
      if (namespace === "/") this.#dispatch(type, ack, body);
    });
  }

  #dispatch(type, ack, body) {
    if (type === SIO.CONNECT) return this.accepted(body.sid);
    if (type === SIO.DISCONNECT) return this.stop("disconnected by the server");
    if (type === SIO.CONNECT_ERROR) return this.stop(`rejected by the server: ${body?.message ?? body}`);
    if (type === SIO.ACK || type === SIO.BINARY_ACK) return this.settle(Number(ack), "resolve", body);
    const answer = (values) => this.send(SIO.ACK + ack + JSON.stringify(values));
    this.delivered(body[0], body.slice(1), ack && answer);
  }
}

/** Plain WebSocket: one frame is one message */
class PlainClient extends Client {
  openLink(handlers) {
    return new SocketLink(this.options.url, [], handlers);
  }

  linkOpened() {
    this.accepted(null);
  }

  encode(event, args, ack) {
    if (event === "message" && args.length === 1 && ack === undefined) return args[0];
    throw new Error('plain frames have no event name and no ack; use emit("message", text)');
  }

  decode(data) {
    const frame = typeof data === "string" && data.startsWith("[") ? parseOr(data, null) : null;
    if (typeof frame?.[0] === "string") this.delivered(frame[0], frame.slice(1));
    else this.delivered("message", [data]);
  }
}

/** JSON arrays in both directions: `["event", ...args]`, optionally with a header object in front */
class JsonClient extends Client {
  openLink(handlers) {
    return new SocketLink(this.options.url, ["roomcast.json"], handlers);
  }

  encode(event, args, ack) {
    return JSON.stringify(ack === undefined ? [event, ...args] : [{ ack }, event, ...args]);
  }

  decode(data) {
    const frame = typeof data === "string" && JSON.parse(data);
    if (!Array.isArray(frame)) throw new Error("not a roomcast.json frame");
    const header = typeof frame[0] === "object" && frame[0] !== null ? frame.shift() : {};
    this.collect(header.binary ?? 0, frame, (body) => {
      if (header.sid !== undefined) this.accepted(header.sid); // the server speaks first: [{"sid":"…"}]
      if (header.re !== undefined) return this.settle(header.re, "resolve", body);
      const answer = (values) => this.send(JSON.stringify([{ re: header.ack }, ...values]));
      if (body.length > 0) this.delivered(body[0], body.slice(1), header.ack !== undefined && answer);
    });
  }
}

/** A WebSocket to `/ws`; calls `closed` once, and no handler after `close` */
class SocketLink {
  #socket;
  #handlers;

  constructor(url, subprotocols, handlers) {
    this.#handlers = handlers;
    this.#socket = openSocket(`${url}/ws`, subprotocols);
    this.#socket.onopen = () => {
      handlers.transport("websocket");
      handlers.opened();
    };
    this.#socket.onmessage = ({ data }) => {
      handlers.wire("in", data);
      handlers.message(typeof data === "string" ? data : new Uint8Array(data));
    };
    this.#socket.onclose = ({ code }) => handlers.closed(`connection closed (${code})`);
  }

  send(data) {
    this.#handlers.wire("out", data);
    this.#socket.send(data);
  }

  close() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

/** An Engine.IO v4 session with the same handlers: long-polling, WebSocket, or long-polling with an upgrade */
class EngineLink {
  #url;
  #transports; // in order of use
  #handlers; // null once the session is over
  #session = null; // the server's open packet
  #socket = null; // the WebSocket, once it carries the session
  #queue = []; // packets for the next POST
  #paused = false; // true while an upgrade waits for pending requests
  #polling = null; // promise of the pending GETs
  #pushing = null; // promise of the pending POSTs
  #heartbeat = 0;
  #abort = new AbortController();

  constructor(url, transports, handlers) {
    this.#url = `${url}/socket.io/?EIO=4`;
    this.#transports = transports;
    this.#handlers = handlers;
    if (transports[0] === "polling") this.#poll();
    else this.#carryBy(openSocket(this.#address("websocket")));
  }

  send(message) {
    this.#sendPacket(EIO.MESSAGE + message);
  }

  /** Closes the session after sending queued packets */
  async close() {
    if (!this.#handlers) return;
    clearTimeout(this.#heartbeat);
    this.#handlers = null;
    this.#socket?.close();
    const farewell = [...this.#queue.splice(0), EIO.CLOSE].join(SEPARATOR);
    await this.#pushing;
    if (this.#session && !this.#socket) await this.#request("POST", farewell).catch(() => {});
    this.#abort.abort();
  }

  #fail(reason) {
    const handlers = this.#handlers;
    clearTimeout(this.#heartbeat);
    this.#handlers = null;
    this.#socket?.close();
    this.#abort.abort();
    handlers?.closed(reason);
  }

  #sendPacket(packet) {
    if (!this.#socket) {
      this.#queue.push(packet);
      this.#push();
    } else if (this.#socket.readyState === WebSocket.OPEN) {
      this.#handlers.wire("out", packet);
      this.#socket.send(packet);
    }
  }

  #receivePacket(packet) {
    if (!this.#handlers) return;
    this.#handlers.wire("in", packet);
    if (typeof packet !== "string") return this.#handlers.message(new Uint8Array(packet));
    const [type, content] = [packet[0], packet.slice(1)];
    if (type === EIO.MESSAGE) return this.#handlers.message(content);
    if (type === EIO.BINARY) return this.#handlers.message(Uint8Array.from(atob(content), (c) => c.charCodeAt(0)));
    if (type === EIO.OPEN) return this.#opened(JSON.parse(content));
    if (type === EIO.CLOSE) return this.#fail("closed by the server");
    if (type === EIO.PING) {
      this.#expectPing();
      this.#sendPacket(EIO.PONG);
    } else if (type !== EIO.NOOP) this.#fail("not an Engine.IO packet");
  }

  #opened(session) {
    this.#session = session;
    this.#expectPing();
    this.#handlers.transport(this.#transports[0]);
    this.#handlers.opened();
    if (this.#transports[1] && session.upgrades.includes(this.#transports[1])) this.#upgrade();
  }

  // The server pings; without a ping for this long the connection counts as lost, even if TCP is up.
  #expectPing() {
    clearTimeout(this.#heartbeat);
    const { pingInterval, pingTimeout } = this.#session;
    this.#heartbeat = setTimeout(() => this.#fail("heartbeat timeout"), pingInterval + pingTimeout);
  }

  // One GET is always pending, which the server answers as soon as it has a packet.
  #poll() {
    this.#polling ??= this.#run(async () => {
      while (this.#handlers && !this.#paused) {
        const payload = await this.#request("GET");
        for (const packet of payload.split(SEPARATOR)) this.#receivePacket(packet);
      }
      this.#polling = null;
    });
  }

  // One POST at a time: the server closes a session with overlapping POSTs.
  #push() {
    this.#pushing ??= this.#run(async () => {
      while (this.#handlers && !this.#paused && this.#queue.length > 0) {
        const packets = this.#takePackets();
        for (const packet of packets) this.#handlers.wire("out", packet);
        await this.#request("POST", packets.join(SEPARATOR));
      }
      this.#pushing = null;
    });
  }

  async #run(requests) {
    try {
      await null; // packets sent in the same tick share a request
      await requests();
    } catch (error) {
      this.#fail(error.message);
    }
  }

  // As many packets as the server accepts in one body, but at least one.
  #takePackets() {
    let bytes = 0;
    const tooMany = (packet, index) => (bytes += new Blob([packet]).size + 1) > this.#session.maxPayload && index > 0;
    const end = this.#queue.findIndex(tooMany);
    return this.#queue.splice(0, end === -1 ? this.#queue.length : end);
  }

  async #request(method, body) {
    const { signal } = this.#abort;
    const response = await fetch(this.#address("polling"), { method, body, cache: "no-store", signal });
    const text = await response.text();
    if (!response.ok) throw new Error(parseOr(text, {}).message ?? `${method} failed with status ${response.status}`);
    return text;
  }

  /**
   * Upgrades the session from polling to WebSocket without losing or reordering packets.
   *
   * 1. A second connection is probed with `2probe` and `3probe`. Polling continues meanwhile.
   * 2. No new request is started and pending ones are awaited; the server answers the pending GET with a noop.
   * 3. `5` completes the upgrade. Packets queued meanwhile are sent over the WebSocket.
   *
   * If a step fails, the session stays on polling.
   */
  async #upgrade() {
    const socket = openSocket(this.#address("websocket"));
    const lost = new Promise((_, reject) => {
      socket.onclose = this.#abort.signal.onabort = () => reject(new Error("probe lost"));
    });
    const proved = new Promise((resolve) => {
      socket.onopen = () => socket.send(`${EIO.PING}probe`);
      socket.onmessage = ({ data }) => (data === `${EIO.PONG}probe` ? resolve() : socket.close());
    });
    setTimeout(() => this.#socket === socket || socket.close(), PROBE_TIMEOUT);
    try {
      await Promise.race([proved, lost]);
      this.#paused = true;
      await Promise.race([Promise.all([this.#polling, this.#pushing]), lost]);
      if (!this.#handlers) throw new Error("closed meanwhile");
      this.#handlers.wire("out", EIO.UPGRADE);
      socket.send(EIO.UPGRADE);
      this.#carryBy(socket);
      this.#handlers.transport("websocket");
      for (const packet of this.#queue.splice(0)) this.#sendPacket(packet);
    } catch {
      socket.close();
      this.#paused = false;
      this.#poll();
      this.#push();
    }
  }

  #carryBy(socket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receivePacket(data);
    socket.onclose = ({ code }) => this.#fail(`connection closed (${code})`);
  }

  #address(transport) {
    const sid = this.#session ? `&sid=${encodeURIComponent(this.#session.sid)}` : "";
    return `${this.#url}&transport=${transport}${sid}`;
  }
}

function openSocket(address, subprotocols = []) {
  const socket = new WebSocket(address.replace(/^http/, "ws"), subprotocols);
  socket.binaryType = "arraybuffer";
  return socket;
}

// Replaces the placeholders {"_placeholder":true,"num":i} by attachments.
function fillPlaceholders(value, attachments) {
  if (typeof value !== "object" || value === null) return value;
  if (value._placeholder === true) return attachments[value.num];
  for (const key of Object.keys(value)) value[key] = fillPlaceholders(value[key], attachments);
  return value;
}

function parseOr(json, otherwise) {
  try {
    return JSON.parse(json);
  } catch {
    return otherwise;
  }
}

const TIMES = { ackTimeout: 5000, connectTimeout: 10000, minDelay: 500, maxDelay: 8000 }; // milliseconds
const PROBE_TIMEOUT = 10000; // milliseconds
const SEPARATOR = "\x1e";
const EIO = { OPEN: "0", CLOSE: "1", PING: "2", PONG: "3", MESSAGE: "4", UPGRADE: "5", NOOP: "6", BINARY: "b" };
const SIO = { CONNECT: "0", DISCONNECT: "1", EVENT: "2", ACK: "3", CONNECT_ERROR: "4", BINARY_ACK: "6" };
