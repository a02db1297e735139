// Events that are sent again to another server, or to a client that has moved to another server.
//
// A client with `retries` whose server was killed before the answer arrived gets the same answer from the next server.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectTcp, createServer } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import { until } from "../lib/cluster.js";
import { PATIENCE } from "../lib/patience.js";
import { startRedis } from "../lib/redis.js";
import { startExample } from "../lib/server.js";
import { inTime } from "../lib/websocket.js";

/** Longer than the time in which changes of sessions are collected */
const STORED = 500;

describe("an event that is sent again to another server", () => {
  let redis;
  let servers;
  before(async () => (redis = await startRedis()));
  after(() => redis?.stop());
  afterEach(() => Promise.all((servers ?? []).map((server) => server.stop())));

  /** Starts two servers, of which the first has taken three orders, and a client of it whose answers can be lost */
  async function begin() {
    const start = () => startExample("recovery_server", { redis: `redis://127.0.0.1:${redis.port}`, record: true });
    servers = await Promise.all([start(), start()]);
    const [killed, other] = servers;
    const others = await connect(killed.url);
    for (const id of ["x", "y", "z"]) await others.timeout(PATIENCE).emitWithAck("order", id, 0);
    others.disconnect();
    const path = await forward(killed.port);
    const socket = await connect(path.url, { retries: 20, ackTimeout: 1000 });
    await sleep(STORED);
    const kill = async () => {
      killed.child.kill("SIGKILL");
      await killed.exited;
      path.close();
      await until(() => !socket.connected, "the connection is lost");
      socket.io.uri = other.url;
      socket.connect();
      await inTime(once(socket, "connect"), PATIENCE, "no connect");
      assert.equal(socket.recovered, true);
    };
    return { killed, other, path, socket, kill };
  }

  test("is handled once if its first server had handled it", async () => {
    const { killed, other, path, socket, kill } = await begin();
    path.lose();
    const answer = new Promise((resolve) => socket.emit("order", "mine", 0, (...answer) => resolve(answer)));
    await until(() => killed.output.includes(`event order of ${socket.id}`), "the order arrives");
    await sleep(STORED);
    await kill();
    assert.deepEqual(await inTime(answer, PATIENCE, "no answer"), [null, 4]);
    await until(() => other.output.includes(`event order of ${socket.id}`), "it is sent again");
    // The second server has taken no order.
    assert.equal(await inTime(socket.emitWithAck("order", "next", 0), PATIENCE, "no answer"), 1);
    assert.equal(await inTime(socket.emitWithAck("order", "mine", 0), PATIENCE, "no answer"), 4);
    socket.disconnect();
  });

  test("is handled again if its handler had not completed", async () => {
    const { killed, path, socket, kill } = await begin();
    path.lose();
    const answer = new Promise((resolve) => socket.emit("order", "mine", 60_000, (...answer) => resolve(answer)));
    await until(() => killed.output.includes(`event order of ${socket.id}`), "the order arrives");
    await sleep(STORED);
    await kill();
    // The handler runs for a minute here too, and for another event at once.
    const next = await connect(servers[1].url);
    assert.equal(await next.timeout(PATIENCE).emitWithAck("order", "next", 0), 1);
    assert.equal(await Promise.race([answer, sleep(500)]), undefined);
    [socket, next].forEach((socket) => socket.disconnect());
  });
});

test("an event of a server is sent again to its client on another one", async () => {
  const redis = await startRedis();
  const start = () => startExample("recovery_server", { redis: `redis://127.0.0.1:${redis.port}` });
  const servers = await Promise.all([start(), start()]);
  try {
    const [former, other] = servers;
    const path = await forward(former.port);
    const socket = await connect(path.url);
    const { id } = socket;
    await sleep(STORED);
    let heard = 0;
    let answers = false;
    socket.on("mail", (text, answer) => {
      assert.equal(text, "letter");
      heard += 1;
      if (answers) answer("thanks");
    });
    socket.emit("deliver", "letter");
    await until(() => heard > 0, "the event arrives");
    path.close();
    await until(() => !socket.connected, "the connection is lost");
    answers = true;
    const before = heard;
    socket.io.uri = other.url;
    socket.connect();
    await inTime(once(socket, "connect"), PATIENCE, "no connect");
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    await until(() => former.output.includes(`answer of ${id}: "thanks"`), "the former server has the answer");
    assert(heard > before);
    socket.disconnect();
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    await redis.stop();
  }
});

async function connect(url, options = {}) {
  const manager = new Manager(url, { forceNew: true, reconnection: false, transports: ["websocket"] });
  const socket = manager.socket("/", options);
  await inTime(once(socket, "connect"), PATIENCE, "no connect");
  return socket;
}

/** Path to a server whose answers can be lost */
async function forward(to) {
  let loses = false;
  const clients = new Set();
  const proxy = createServer((client) => {
    const upstream = connectTcp(to, "127.0.0.1");
    clients.add(client);
    client.on("data", (bytes) => upstream.write(bytes));
    upstream.on("data", (bytes) => loses || client.write(bytes));
    upstream.on("close", () => client.destroy());
    client.on("close", () => upstream.destroy());
    for (const socket of [client, upstream]) socket.on("error", () => {});
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const close = () => {
    clients.forEach((client) => client.destroy());
    proxy.close();
  };
  return { url: `http://127.0.0.1:${proxy.address().port}`, lose: () => (loses = true), close };
}
