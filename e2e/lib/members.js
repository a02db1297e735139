// Common clients behind one interface, as members of the demo's rooms.
import { fileURLToPath } from "node:url";
import { io as io3 } from "sio3";
import { io as io4 } from "socket.io-client";
import { PATIENCE } from "./patience.js";
import { inTime, WebSocketClient } from "./websocket.js";

/** Common to every member: a name, a socket id, the current transport, and all received events */
class Member {
  /** `[event, detail]` of everything received, oldest first */
  log = [];

  constructor(name) {
    this.name = name;
  }

  /** Resolves when the server's `hello` has arrived, which it keeps as `hello` */
  async connected() {
    await until(() => this.log.length > 0, `${this.name}: no hello`);
    const [event, hello] = this.log.shift();
    if (event !== "hello") throw new Error(`${this.name}: ${event} before hello`);
    this.hello = hello;
    this.id = hello.id;
    return this;
  }

  /** Sends to everyone, others, a room or a room's others. Resolves to the ack, if the client supports acks */
  async cast(pattern, room, text) {
    return this.request(pattern, ...(pattern.startsWith("room") ? [room, text] : [text]));
  }
}

/** socket.io-client of one major version, on one set of transports */
export class SocketIoMember extends Member {
  constructor(url, version, mode) {
    super(`socket.io-client ${version} ${mode}`);
    const options = { forceNew: true, reconnection: false, ...(TRANSPORTS[mode] && { transports: TRANSPORTS[mode] }) };
    this.mode = mode;
    this.socket = { 3: io3, 4: io4 }[version](url, options);
    this.socket.onAny((...received) => this.log.push(received));
  }

  async connected() {
    await super.connected();
    if (this.mode === "upgrade") await until(() => this.transport === "websocket", `${this.name}: no upgrade`);
    return this;
  }

  get transport() {
    return this.socket.io.engine.transport.name;
  }

  request(event, ...args) {
    const answer = new Promise((resolve) => this.socket.emit(event, ...args, resolve));
    return inTime(answer, PATIENCE, `${this.name}: no answer to ${event}`);
  }

  async close() {
    this.socket.close();
  }
}

/** The npm package `ws` on `/ws`, without a subprotocol: slash commands out, event arrays in */
export class PlainMember extends Member {
  static async open(url, name = "ws plain") {
    const member = new PlainMember(name);
    member.client = await WebSocketClient.open(`${url}/ws`);
    member.client.socket.on("message", (data) => member.log.push(JSON.parse(data)));
    member.log.push(...member.client.waiting.map((frame) => JSON.parse(frame)));
    return member;
  }

  transport = "websocket";

  async request(event, ...args) {
    this.client.send(event === "everyone" ? args[0] : `/${event} ${args.join(" ")}`);
  }

  async close() {
    this.client.terminate();
  }
}

/** The npm package `ws` on `/ws` with the subprotocol `roomcast.json`: arrays both ways, with acks */
export class JsonMember extends Member {
  static async open(url, name = "ws roomcast.json") {
    const member = new JsonMember(name);
    member.client = await WebSocketClient.open(`${url}/ws`, { protocols: ["roomcast.json"] });
    if (member.client.protocol !== "roomcast.json") throw new Error("the server did not select roomcast.json");
    const [first] = JSON.parse(await member.client.next());
    member.sid = first.sid;
    member.client.waiting.forEach((frame) => member.#receive(frame));
    member.client.socket.on("message", (data) => member.#receive(data));
    return member;
  }

  transport = "websocket";
  #answers = new Map();
  #asked = 0;

  request(event, ...args) {
    const ack = ++this.#asked;
    const answer = new Promise((resolve) => this.#answers.set(ack, resolve));
    this.client.send(JSON.stringify([{ ack }, event, ...args]));
    return inTime(answer, PATIENCE, `${this.name}: no answer to ${event}`);
  }

  #receive(data) {
    const [head, ...rest] = JSON.parse(data);
    if (typeof head === "string") this.log.push([head, ...rest]);
    else this.#answers.get(head.re)?.(...rest);
  }

  async close() {
    this.client.terminate();
  }
}

/** Client in a browser page: the bundle of socket.io-client, or the browser's WebSocket */
export class BrowserMember extends Member {
  /** Opens clients of these modes (`polling`, `websocket`, `upgrade`, `plain`) within one page */
  static async openAll(page, modes) {
    const members = modes.map((mode, index) => new BrowserMember(page, mode, index));
    const byIndex = (index, received) => members[index].log.push(received);
    await page.exposeFunction("reportReceived", byIndex);
    const bundle = fileURLToPath(new URL("../node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));
    await page.addScriptTag({ path: bundle });
    await page.evaluate(openInPage, modes.map((mode) => ({ mode, transports: TRANSPORTS[mode] })));
    return members;
  }

  constructor(page, mode, index) {
    super(mode === "plain" ? "Chromium WebSocket" : `Chromium socket.io-client 4 ${mode}`);
    Object.assign(this, { page, mode, index });
  }

  async connected() {
    await super.connected();
    for (const deadline = Date.now() + PATIENCE; ; ) {
      this.transport = await this.page.evaluate((index) => window.members[index].transport(), this.index);
      if (this.mode !== "upgrade" || this.transport === "websocket") return this;
      if (Date.now() > deadline) throw new Error(`${this.name}: no upgrade`);
      await pause(10);
    }
  }

  request(event, ...args) {
    const asked = this.page.evaluate(
      ([index, event, args]) => window.members[index].request(event, args),
      [this.index, event, args],
    );
    return inTime(asked, PATIENCE, `${this.name}: no answer to ${event}`);
  }

  async close() {}
}

/** Waits until the condition holds */
export async function until(condition, missing, within = PATIENCE) {
  const deadline = Date.now() + within;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${missing} within ${within} ms`);
    await pause(2);
  }
}

// Runs in the page.
function openInPage(wanted) {
  window.members = wanted.map(({ mode, transports }, index) => {
    const received = (event) => window.reportReceived(index, event);
    if (mode === "plain") {
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`);
      socket.onmessage = ({ data }) => received(JSON.parse(data));
      return {
        transport: () => "websocket",
        request: (event, args) => socket.send(event === "everyone" ? args[0] : `/${event} ${args.join(" ")}`),
      };
    }
    const socket = window.io({ forceNew: true, ...(transports && { transports }) });
    socket.onAny((...event) => received(event));
    return {
      transport: () => socket.io.engine.transport.name,
      request: (event, args) => socket.emitWithAck(event, ...args),
    };
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"] };
