// `roomcast serve --redis-mode streams --recovery`: clients of a killed server recover on another one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import { WebSocket } from "ws";
import { until } from "../lib/cluster.js";
import { PATIENCE } from "../lib/patience.js";
import { startRedis } from "../lib/redis.js";
import { startDemo } from "../lib/server.js";
import { inTime } from "../lib/websocket.js";

/** Longer than the time in which changes of sessions are collected */
const STORED = 500;

describe("clients of a killed `roomcast serve`", () => {
  let redis;
  let servers;
  const start = (flags = {}) =>
    startDemo(0, {
      redis: `redis://127.0.0.1:${redis.port}`,
      "redis-mode": "streams",
      "redis-max-len": 100_000,
      recovery: true,
      ...flags,
    });

  before(async () => {
    redis = await startRedis();
  });
  afterEach(() => Promise.all((servers ?? []).map((server) => server.stop())));
  after(() => redis?.stop());

  test("recover on another one with id, rooms and missed messages", async () => {
    servers = [await start(), await start()];
    const [killed, other] = servers;
    const clients = [new SocketIoClient(), new SocketIoClient(["polling"]), new JsonClient()];
    await Promise.all(clients.map((client) => client.open(killed.url)));
    const ids = clients.map(({ id }) => id);
    assert.equal(clients.some(({ isRecovered }) => isRecovered), false);
    await Promise.all(clients.map((client) => client.ask("join", "red")));
    const speaker = new SocketIoClient();
    await speaker.open(other.url);
    const say = async (room, text) => speaker.ask("room", room, text);
    // A client that has received no event has no offset. Clients by long-polling receive none before.
    await say("red", "before");
    await Promise.all(clients.map((client) => client.has("before")));
    await sleep(STORED);

    killed.child.kill("SIGKILL");
    await killed.exited;
    await Promise.all(clients.map((client) => client.lost()));
    for (const number of [1, 2, 3]) await say("red", `missed ${number}`);
    await say("blue", "to others");
    await Promise.all(clients.map((client) => client.open(other.url)));
    await say("red", "after");
    await Promise.all(clients.map((client) => client.has("after")));
    for (const [index, client] of clients.entries()) {
      assert.deepEqual([client.isRecovered, client.id], [true, ids[index]]);
      assert.deepEqual(client.texts, ["before", "missed 1", "missed 2", "missed 3", "after"]);
      // The answer lists the rooms.
      assert.deepEqual((await client.ask("join", "red")).rooms, ["red"]);
    }
    [...clients, speaker].forEach((client) => client.end());
  });

  test("begin a new session with --redis-no-sessions", async () => {
    servers = [await start({ "redis-no-sessions": true }), await start({ "redis-no-sessions": true })];
    const [killed, other] = servers;
    const client = new SocketIoClient();
    await client.open(killed.url);
    const { id } = client;
    await sleep(STORED);
    killed.child.kill("SIGKILL");
    await client.lost();
    await client.open(other.url);
    assert.equal(client.isRecovered, false);
    assert.notEqual(client.id, id);
    client.end();
  });
});

/** A Socket.IO client with the texts that it received in its rooms */
class SocketIoClient {
  constructor(transports = ["websocket"]) {
    this.texts = [];
    this.transports = transports;
  }

  get id() {
    return this.socket.id;
  }

  get isRecovered() {
    return this.socket.recovered;
  }

  async open(url) {
    if (!this.socket) {
      const options = { autoConnect: false, reconnection: false, transports: this.transports };
      this.socket = new Manager(url, options).socket("/");
      this.socket.on("room", ({ text }) => this.texts.push(text));
    }
    this.socket.io.uri = url;
    const refused = once(this.socket, "connect_error").then(([error]) => Promise.reject(error));
    this.socket.connect();
    await inTime(Promise.race([once(this.socket, "connect"), refused]), PATIENCE, "no connect");
  }

  lost() {
    return until(() => !this.socket.connected, "the connection is lost");
  }

  ask(event, ...args) {
    return this.socket.timeout(PATIENCE).emitWithAck(event, ...args);
  }

  has(text) {
    return until(() => this.texts.includes(text), () => `${text} among ${this.texts}`);
  }

  end() {
    this.socket.disconnect();
  }
}

/** A plain client in JSON mode, likewise */
class JsonClient {
  #ws;
  #pid;
  #offset;
  #answers = new Map();

  constructor() {
    this.texts = [];
  }

  async open(url) {
    const target = new URL("/ws", url.replace("http", "ws"));
    if (this.#pid) target.searchParams.set("pid", this.#pid);
    if (this.#offset) target.searchParams.set("offset", this.#offset);
    const ws = new WebSocket(target, "roomcast.json");
    this.#ws = ws;
    ws.on("error", () => {});
    await inTime(new Promise((welcomed) => ws.on("message", (data) => this.#handle(data, welcomed))), PATIENCE, "no welcome");
  }

  #handle(data, welcomed) {
    const message = JSON.parse(data);
    const header = typeof message[0] === "object" ? message.shift() : {};
    if (header.sid) {
      this.isRecovered = header.pid === this.#pid;
      Object.assign(this, { id: header.sid });
      this.#pid = header.pid;
      return welcomed();
    }
    if (header.re !== undefined) return this.#answers.get(header.re)?.(message[0]);
    if (header.offset) this.#offset = header.offset;
    if (message[0] === "room") this.texts.push(message[1].text);
  }

  lost() {
    return until(() => this.#ws.readyState === WebSocket.CLOSED, "the connection is lost");
  }

  ask(...event) {
    const ack = this.#answers.size + 1;
    const answer = new Promise((resolve) => this.#answers.set(ack, resolve));
    this.#ws.send(JSON.stringify([{ ack }, ...event]));
    return inTime(answer, PATIENCE, `no answer to ${event[0]}`);
  }

  has(text) {
    return until(() => this.texts.includes(text), () => `${text} among ${this.texts}`);
  }

  end() {
    this.#ws.close();
  }
}
