// Environment of a script: one server, the script's clients, and a record of all messages each receives.
import { setTimeout as sleep } from "node:timers/promises";
import { begin, rawExchange, request } from "../lib/http.js";
import { PATIENCE } from "../lib/patience.js";
import { startDifferential } from "../lib/server.js";
import { inTime, tryOpen, WebSocketClient } from "../lib/websocket.js";
import { Peer } from "./peer.js";

/** A server with a client that watches server events */
class House {
  static async open(target, flags) {
    const server = await startDifferential(target, flags);
    const house = new House(target, server);
    house.recovers = flags.recovery === true;
    await house.watch();
    return house;
  }

  constructor(target, server) {
    this.target = target;
    this.server = server;
    this.notes = new Map();
    this.listeners = new Set();
    this.asked = 0;
    this.answers = new Map();
  }

  async watch() {
    const url = `${this.server.url}/socket.io/?EIO=4&transport=websocket`;
    this.client = await WebSocketClient.open(url);
    this.client.send("40/watch,");
    while (!(await this.client.next()).startsWith("40/watch,"));
    this.read();
  }

  async read() {
    for (;;) {
      const packet = await this.client.next({ within: 3_600_000 }).catch(() => null);
      if (packet === null) return this.lost();
      if (packet === "2") this.client.send("3");
      const [, id, args] = /^4[23]\/watch,(\d*)(\[.*)$/s.exec(packet) ?? [];
      if (!args) continue;
      if (packet[1] === "3") this.answers.get(id)?.(JSON.parse(args)[0]);
      else this.note(...JSON.parse(args).slice(1));
      for (const look of this.listeners) look();
    }
  }

  /** Reconnects the watcher if the server is alive: on a busy machine, a pong may be late */
  async lost() {
    if (this.stopped) return;
    if (this.server.child.exitCode === null) await this.watch().catch((error) => (this.failed = error));
    else this.failed = new Error(`the server on ${this.target} has exited:
${this.server.output}`);
  }

  note(script, text) {
    this.notes.get(script)?.push(text);
  }

  /** Number of sessions, without the watcher's */
  async clients() {
    if (this.failed) throw this.failed;
    const id = String((this.asked += 1));
    const answer = new Promise((resolve) => this.answers.set(id, resolve));
    this.client.send(`42/watch,${id}["clients"]`);
    return (await inTime(answer, PATIENCE, "no number of clients from the application")) - 1;
  }

  async stop() {
    this.stopped = true;
    this.client.terminate();
    await this.server.stop();
  }
}

/**
 * The servers of a subject: scripts with the same flags share a server, one after the other.
 *
 * A script that stops its server has its own.
 */
export class Houses {
  constructor() {
    this.byFlags = new Map();
  }

  open(target, flags, own = "") {
    const key = `${target} ${JSON.stringify(flags)} ${own}`;
    if (!this.byFlags.has(key)) this.byFlags.set(key, House.open(target, flags));
    return this.byFlags.get(key);
  }

  async stop() {
    for (const open of this.byFlags.values()) await open.then((house) => house.stop(), () => {});
  }
}

/** One run of one script: `record()` returns the messages received */
export class Stage {
  constructor(house, key, carrier) {
    this.house = house;
    this.key = key;
    this.carrier = carrier;
    this.peers = [];
    this.ids = [];
    this.questions = [];
    this.opened = [];
    house.notes.set(key, []);
  }

  get url() {
    return this.house.server.url;
  }

  get port() {
    return this.house.server.port;
  }

  /** Adds a line to the record, in a separate part for each name */
  peer(name) {
    const known = this.peers.find((peer) => peer.name === name);
    return known ?? this.add(new Peer(this, name));
  }

  /** A client with a session over the carrier, in no namespace */
  async engine(name, { carrier = this.carrier, query = "", headers, path = "/socket.io/" } = {}) {
    const peer = this.add(new Peer(this, name));
    const own = path === "/socket.io/" ? `&script=${this.key}&peer=${name}` : "";
    peer.base = `${this.url}${path}?EIO=4${own}${query}`;
    peer.headers = headers;
    if (carrier === "websocket") await peer.openWebSocket();
    else await peer.openPolling();
    if (carrier === "upgraded") await peer.upgrade();
    return peer;
  }

  /** A client in a namespace */
  async join(name, { namespace = "/", auth, ...options } = {}) {
    const peer = await this.engine(name, options);
    await peer.connect(namespace, auth);
    return peer;
  }

  /** Several clients at once */
  async joinAll(names, options) {
    const peers = [];
    for (const name of names) peers.push(await this.join(name, options));
    return peers;
  }

  /** One HTTP request with all client-visible parts of its response */
  async http(name, query, { method = "GET", headers, body, path = "/socket.io/" } = {}) {
    const peer = this.peer(name);
    const target = `${path}${query}`;
    peer.line(`${method} ${query || path}`);
    const answer = await request(`${this.url}${target}`, { method, headers, body }).catch((error) => ({ error }));
    if (answer.error) peer.line("  no answer");
    else peer.answer(answer);
    const sid = /^0\{"sid":"([^"]+)"/.exec(answer.body)?.[1];
    if (sid) this.opened.push(`${this.url}${path}?EIO=4&transport=polling&sid=${sid}`);
    return answer;
  }

  /** A POST of a client with an unfinished body */
  beginPush(peer, headers, options) {
    peer.line("POST in parts");
    return begin(peer.address(), { method: "POST", headers, ...options });
  }

  /** Raw bytes over a separate connection, with all received bytes until its end */
  async bytes(name, text, keep = (answer) => answer) {
    const peer = this.peer(name);
    const answer = await rawExchange(this.port, text).catch((error) => `no end: ${error.message.slice(0, 60)}`);
    peer.line(keep(answer));
  }

  /** Tries to open a WebSocket and records the result */
  async websocket(name, query, { headers, path = "/socket.io/", protocols } = {}) {
    const peer = this.peer(name);
    peer.line(`WebSocket ${query || path}`);
    const attempt = await tryOpen(`${this.url}${path}${query}`, { headers, protocols });
    if (!attempt.client) {
      peer.answer(attempt);
      return undefined;
    }
    peer.line("  101");
    peer.socket = attempt.client;
    return peer;
  }

  /** WebSocket that requests an upgrade of a client's session, under a separate name */
  async candidate(peer, name = "b") {
    const other = this.peer(name);
    const attempt = await tryOpen(peer.address("websocket"));
    other.socket = attempt.client;
    if (!attempt.client) other.answer(attempt);
    return other;
  }

  /** Waits until the server has handled all input, where no response shows it */
  settled() {
    return this.house.server.settled();
  }

  /** Waits for this number of server events */
  async noted(count, within = PATIENCE) {
    const notes = this.house.notes.get(this.key);
    await new Promise((resolve) => {
      const look = () => {
        if (notes.length < count) return;
        clearTimeout(late);
        this.house.listeners.delete(look);
        resolve();
      };
      const late = setTimeout(() => {
        this.house.listeners.delete(look);
        resolve();
      }, within);
      this.house.listeners.add(look);
      look();
    });
    this.told = count;
  }

  /** Waits for this number of server events, and a little longer for unexpected ones */
  async notedOnly(count) {
    await this.noted(count);
    await this.noted(count + 1, 100);
  }

  /** A name for a server ack that does not depend on earlier acks */
  number(id) {
    if (!this.questions.includes(id)) this.questions.push(id);
    return `<question ${this.questions.indexOf(id) + 1}>`;
  }

  /** Messages received by each client, and server events requested by the script */
  record() {
    const notes = this.house.notes.get(this.key).slice(0, this.told ?? 0);
    const lines = this.peers.flatMap((peer) => {
      for (const packet of peer.waiting.splice(0)) peer.line(`left: ${peer.shown(packet)}`);
      return peer.lines.map((line) => `${peer.name}: ${line}`);
    });
    lines.push(...notes.map((note) => `server: ${note}`));
    // Longest first: Node derives the second id of a millisecond from the first and a dot.
    this.ids.sort(([one], [other]) => other.length - one.length);
    return lines.map((line) => this.ids.reduce((text, [id, label]) => text.replaceAll(id, label), line));
  }

  /** Allows the server to stop from here on */
  ends() {
    this.house.stopped = true;
  }

  /** Disconnects all clients, and waits until the server has registered it */
  async clear() {
    for (const peer of this.peers) peer.leave();
    for (const url of this.opened) request(url, { method: "POST", body: "1" }).catch(() => {});
    if (this.house.stopped) return;
    const deadline = Date.now() + PATIENCE;
    for (let left; (left = await this.house.clients()) > 0; await sleep(3)) {
      if (Date.now() > deadline) throw new Error(`${left} sessions are left on ${this.house.target}`);
    }
    this.house.notes.delete(this.key);
  }

  add(peer) {
    this.peers.push(peer);
    return peer;
  }
}
