// Raw Engine.IO sessions: tests control every request and packet.
import assert from "node:assert/strict";
import { begin, request } from "./http.js";
import { PATIENCE } from "./patience.js";
import { WebSocketClient } from "./websocket.js";

/** Separator of the packets in a payload */
export const SEPARATOR = "\x1e";

/**
 * The applications at the two paths of the conformance server.
 *
 * `heard` is the response to the message of `say`, so that a case covers both; `join` prepares a client.
 */
export const PROFILES = [
  {
    name: "/engine.io/",
    path: "/engine.io/",
    say: (text) => `4${text}`,
    heard: (text) => `4${text}`,
    join: async () => {},
  },
  {
    name: "/socket.io/",
    path: "/socket.io/",
    say: (text) => `42${JSON.stringify(["message", text])}`,
    heard: (text) => `42${JSON.stringify(["message-back", text])}`,
    join: async (session) => {
      await session.send("40");
      assert.match(await session.next(), /^40\{"sid":"[^"]+"\}$/);
      assert.equal(await session.next(), '42["auth",{}]');
    },
  },
];

/** Polling session. It sends requests only on demand */
export class PollingSession {
  /** Performs the handshake and `profile.join` */
  static async open(server, profile, { query = "", headers } = {}) {
    const answer = await request(`${server.url}${profile.path}?EIO=4&transport=polling${query}`, { headers });
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.body[0], "0", answer.body);
    const session = new PollingSession(server, profile, JSON.parse(answer.body.slice(1)), headers);
    await profile.join(session);
    return session;
  }

  constructor(server, profile, opened, headers) {
    this.server = server;
    this.profile = profile;
    this.opened = opened;
    this.headers = headers;
    this.waiting = [];
  }

  get sid() {
    return this.opened.sid;
  }

  /** URL of this session's GETs and POSTs */
  get url() {
    return `${this.server.url}${this.profile.path}?EIO=4&transport=polling&sid=${this.sid}`;
  }

  /** URL of a WebSocket that upgrades this session */
  get upgradeUrl() {
    return this.url.replace("transport=polling", "transport=websocket");
  }

  /** Sends one GET and accepts any response */
  poll(options) {
    return request(this.url, { headers: this.headers, ...options });
  }

  /** Sends one POST and accepts any response */
  push(body, options) {
    return request(this.url, { method: "POST", headers: this.headers, body, ...options });
  }

  /** A GET that can be aborted */
  beginPoll() {
    const exchange = begin(this.url, { headers: this.headers });
    exchange.end();
    return exchange;
  }

  /** A POST with an unfinished body */
  beginPush(options) {
    return begin(this.url, { method: "POST", headers: this.headers, ...options });
  }

  /** Sends packets in one payload and expects `ok`. A Buffer is sent as `b` and base64 */
  async send(...packets) {
    if (packets.length === 0) return;
    const answer = await this.push(packets.map(packetText).join(SEPARATOR));
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  }

  /** Next packet, over as many GETs as needed. Skips noops */
  async next({ within = PATIENCE } = {}) {
    while (this.waiting.length === 0) {
      const answer = await this.poll({ within });
      assert.equal(answer.status, 200, `the poll failed: ${answer.body}`);
      this.waiting.push(...answer.body.split(SEPARATOR).filter((packet) => packet !== "6"));
    }
    const packet = this.waiting.shift();
    return packet[0] === "b" ? Buffer.from(packet.slice(1), "base64") : packet;
  }

  /** Fails unless the session is unknown to the server */
  async gone() {
    const answer = await this.poll();
    assert.equal(answer.status, 400, `the session still answers: ${answer.body}`);
    assert.deepEqual(JSON.parse(answer.body), { code: 1, message: "Session ID unknown" });
  }

  /** Fails unless the server ends this session without a message, except for a close packet */
  async untilClosed({ within = PATIENCE } = {}) {
    const deadline = Date.now() + within;
    assert.deepEqual(this.waiting.filter((packet) => packet !== "1"), []);
    for (;;) {
      const answer = await this.poll({ within: Math.max(deadline - Date.now(), 1) });
      if (answer.status !== 200) {
        assert.equal(answer.status, 400);
        return;
      }
      const others = answer.body.split(SEPARATOR).filter((packet) => !["1", "2", "6"].includes(packet));
      assert.deepEqual(others, [], "a message came where the session should have ended");
    }
  }

  /** Closes the session as a client does */
  async leave() {
    await this.push("1");
  }
}

/** A session over WebSocket, from the start or since its upgrade */
export class WebSocketSession {
  /** Performs the handshake and `profile.join` */
  static async open(server, profile, { query = "", ...options } = {}) {
    const url = `${server.url}${profile.path}?EIO=4&transport=websocket${query}`;
    const client = await WebSocketClient.open(url, options);
    const first = await client.next();
    assert.equal(first[0], "0", String(first));
    const session = new WebSocketSession(client, JSON.parse(first.slice(1)));
    await profile.join(session);
    return session;
  }

  /** Opens with polling, upgrades, and then performs `profile.join` */
  static async upgraded(server, profile) {
    const polling = await PollingSession.open(server, { ...profile, join: async () => {} });
    const client = await upgrade(polling);
    const session = new WebSocketSession(client, polling.opened);
    await profile.join(session);
    return session;
  }

  constructor(client, opened) {
    this.client = client;
    this.opened = opened;
  }

  get sid() {
    return this.opened.sid;
  }

  async send(...packets) {
    this.client.send(...packets);
  }

  next(options) {
    return this.client.next(options);
  }

  /** Fails unless the server closes without a message */
  async untilClosed(options) {
    await this.client.untilClosed(options);
    assert.deepEqual(this.client.waiting, [], "a message came where the session should have ended");
  }

  async leave() {
    this.client.terminate();
  }
}

/** Upgrades a polling session to a WebSocket, as a client does; no packets may be pending */
export async function upgrade(polling) {
  const client = await probe(polling);
  const parked = await polling.poll();
  assert.deepEqual([parked.status, parked.body], [200, "6"]);
  client.send("5");
  return client;
}

/** Opens a WebSocket on a polling session and expects the answer to its probe */
export async function probe(polling) {
  const client = await WebSocketClient.open(polling.upgradeUrl);
  client.send("2probe");
  assert.equal(await client.next(), "3probe");
  return client;
}

/** The three carriers of a session, for cases that hold on each */
export const CARRIERS = [
  { name: "polling", open: (server, profile) => PollingSession.open(server, profile) },
  { name: "websocket", open: (server, profile) => WebSocketSession.open(server, profile) },
  { name: "upgraded", open: (server, profile) => WebSocketSession.upgraded(server, profile) },
];

/** Sends a message and expects exactly its echo: the session is alive and has no pending packets */
export async function answers(session, profile, text = "still here") {
  await session.send(profile.say(text));
  assert.equal(await session.next(), profile.heard(text));
}

function packetText(packet) {
  return typeof packet === "string" ? packet : `b${Buffer.from(packet).toString("base64")}`;
}
