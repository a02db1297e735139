// Clients that come back on another server whenever they lose their connection, and recover their session there.
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import msgpack from "socket.io-msgpack-parser";
import { WebSocket } from "ws";
import { pick } from "./random.js";

/** Time for a connection attempt, and for a server's answer, in milliseconds: a frozen server accepts, and is silent */
const ATTEMPT = 3000;
/** Pause before the next attempt, in milliseconds */
const PAUSE = [50, 400];
/**
 * Time for a server to report whether a message was confirmed, in milliseconds
 *
 * It reports after 5 s at the latest; a client notices a frozen server before that, by its pings.
 */
const REPORT = 20_000;
/** Silence of the server after which a plain client gives up; it is pinged each second */
const SILENCE = 2500;

const SOCKET_IO = {
  WebSocket: { transports: ["websocket"] },
  polling: { transports: ["polling"] },
  upgrade: { transports: ["polling", "websocket"] },
  MessagePack: { transports: ["websocket"], path: "/msgpack/", parser: msgpack },
};
export const KINDS = [...Object.keys(SOCKET_IO), "JSON"];

/**
 * A client that receives the messages to a room
 *
 * It always comes back, on a server of its choice, until it is stopped. `account` records the received messages; see
 * `RecoveryLedger.recipient`.
 */
export class Wanderer {
  #stopped = false;
  #link;

  /** `nodes()` returns the servers, see `Node` */
  constructor({ kind, room, nodes, random, account }) {
    Object.assign(this, { kind, room, nodes, random, account });
    this.isJoined = false;
    /** Whether its session has the room */
    this.isComplete = false;
    /** Each with the names of the servers `from` and `to`, and `isRecovered` */
    this.returns = [];
  }

  async start() {
    const Link = this.kind === "JSON" ? JsonLink : SocketIoLink;
    this.#link = new Link(this);
    while (!this.#stopped) {
      this.isJoined = false;
      this.to = pick(this.nodes(), this.random);
      this.account.attempt();
      if (await this.#link.open(this.to.url).catch(() => false)) {
        await this.#link.closed;
        this.account.lost();
      }
      const [least, most] = PAUSE;
      await sleep(least + this.random() * (most - least));
    }
  }

  /** Called when the server has admitted the client */
  async admitted(isRecovered, join) {
    if (this.account.sessions > 0) this.returns.push({ from: this.from, to: this.to.name, isRecovered });
    this.from = this.to.name;
    if (isRecovered && !this.to.isExact) this.account.returned();
    if (!isRecovered) {
      this.account.begin();
      this.isComplete = false;
    }
    // The connection may have been lost before the answer.
    if (!this.isComplete) {
      await join();
      this.account.joined();
      this.isComplete = true;
    }
    this.isJoined = true;
  }

  received(sender, number, offset) {
    this.account.receive(sender, number, `${this.to.name} at ${offset}`);
  }

  /** Breaks the connection without a goodbye */
  cut() {
    this.#link?.cut();
  }

  stop() {
    this.#stopped = true;
    this.#link?.end();
  }
}

class SocketIoLink {
  #socket;

  constructor(wanderer) {
    this.wanderer = wanderer;
    this.options = { forceNew: true, autoConnect: false, reconnection: false, timeout: ATTEMPT };
  }

  /** Connects the same socket by the URL of another server; resolves to whether it was admitted */
  async open(url) {
    this.#socket ??= this.#create(url);
    const socket = this.#socket;
    socket.io.uri = url;
    const closed = new Promise((resolve) => socket.once("disconnect", resolve));
    this.closed = closed;
    const connected = new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
      socket.io.once("error", reject);
    });
    socket.connect();
    try {
      await inTime(connected, 2 * ATTEMPT);
      await this.wanderer.admitted(socket.recovered, async () => {
        await socket.timeout(ATTEMPT).emitWithAck("join", this.wanderer.room);
      });
      return true;
    } catch {
      this.cut();
      socket.disconnect();
      return false;
    } finally {
      socket.removeAllListeners("connect").removeAllListeners("connect_error");
      socket.io.removeAllListeners("error");
    }
  }

  #create(url) {
    const socket = new Manager(url, { ...this.options, ...SOCKET_IO[this.wanderer.kind] }).socket("/");
    // The last argument is the offset.
    socket.on("told", (sender, number, offset) => this.wanderer.received(sender, number, offset));
    return socket;
  }

  cut() {
    const { engine } = this.#socket?.io ?? {};
    if (!engine) return;
    // A WebSocket that has not begun to open has none.
    if (engine.transport.ws) engine.transport.ws.terminate();
    else engine.close();
  }

  end() {
    this.#socket?.disconnect();
  }
}

/** A plain client in JSON mode, which keeps the recovery token and the last offset itself */
class JsonLink {
  #ws;
  #pid;
  #offset;

  constructor(wanderer) {
    this.wanderer = wanderer;
  }

  async open(url) {
    const target = new URL("/ws", url.replace("http", "ws"));
    if (this.#pid) target.searchParams.set("pid", this.#pid);
    if (this.#pid && this.#offset) target.searchParams.set("offset", this.#offset);
    const ws = new WebSocket(target, "roomcast.json", { handshakeTimeout: ATTEMPT });
    this.#ws = ws;
    let silent;
    const heard = () => {
      clearTimeout(silent);
      silent = setTimeout(() => ws.terminate(), SILENCE);
    };
    this.closed = new Promise((resolve) => ws.once("close", resolve)).finally(() => clearTimeout(silent));
    const joined = new Promise((resolve, reject) => {
      ws.once("error", reject);
      ws.once("close", reject);
      ws.on("open", heard).on("ping", heard);
      ws.on("message", (data) => {
        heard();
        this.#handle(JSON.parse(data), resolve, reject);
      });
    });
    try {
      await inTime(joined, 2 * ATTEMPT);
      return true;
    } catch {
      ws.terminate();
      return false;
    }
  }

  #handle(message, resolve, reject) {
    const header = typeof message[0] === "object" ? message.shift() : {};
    if (header.error) return reject(new Error(header.error.message));
    if (header.re === 1) return this.join?.();
    if (header.sid) {
      const isRecovered = this.#pid === header.pid;
      this.#pid = header.pid;
      if (!isRecovered) this.#offset = undefined;
      const join = () => {
        this.#ws.send(JSON.stringify([{ ack: 1 }, "join", this.wanderer.room]));
        return inTime(new Promise((done) => (this.join = done)), ATTEMPT);
      };
      return this.wanderer.admitted(isRecovered, join).then(resolve, reject);
    }
    if (header.offset) this.#offset = header.offset;
    const [name, sender, number] = message;
    if (name === "told") this.wanderer.received(sender, number, header.offset);
  }

  cut() {
    this.#ws?.terminate();
  }

  end() {
    this.#ws?.terminate();
  }
}

/** A sender of numbered messages to a room, one at a time, over any server */
export class Announcer {
  #stopped = false;
  #socket;

  constructor({ name, room, urls, random, ledger, interval }) {
    Object.assign(this, { name, room, urls, random, ledger, interval });
  }

  async start() {
    while (!this.#stopped) {
      if (!this.#socket?.connected) await this.#connect().catch(() => {});
      if (this.#socket?.connected) await this.announce();
      await sleep(this.interval);
    }
    this.#socket?.disconnect();
  }

  /** Sends one message; resolves to its outcome */
  async announce() {
    const number = this.ledger.send(this.name, this.room);
    const socket = this.#socket;
    let outcome;
    try {
      const { error } = await socket.timeout(REPORT).emitWithAck("publish", this.room, this.name, number);
      outcome = error ? "refused" : "confirmed";
    } catch {
      // The server may have been killed, before or after it published the message.
      outcome = socket.connected ? "silent" : "unknown";
      socket.disconnect();
    }
    this.ledger.settle(this.name, number, outcome);
    return outcome;
  }

  async #connect() {
    const options = { forceNew: true, reconnection: false, timeout: ATTEMPT, transports: ["websocket"] };
    const socket = new Manager(pick(this.urls(), this.random), options).socket("/");
    const connected = new Promise((resolve, reject) => {
      socket.once("connect", resolve).once("connect_error", reject);
    });
    this.#socket = socket;
    await inTime(connected, ATTEMPT).catch(() => socket.disconnect());
  }

  /** Sends a last message until it is confirmed */
  async finish() {
    while ((this.#socket?.connected ? await this.announce() : "unknown") !== "confirmed") {
      if (!this.#socket?.connected) await this.#connect();
      await sleep(this.interval);
    }
    this.#socket.disconnect();
  }

  stop() {
    this.#stopped = true;
  }
}

function inTime(promise, limit) {
  let late;
  const over = new Promise((_, reject) => {
    late = setTimeout(() => reject(new Error("not in time")), limit);
  });
  return Promise.race([promise, over]).finally(() => clearTimeout(late));
}
