// A server that was frozen, and whose clients have recovered on another one meanwhile, drops them silently.
import assert from "node:assert/strict";
import { once } from "node:events";
import { afterEach, before, after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import { until } from "../lib/cluster.js";
import { PATIENCE } from "../lib/patience.js";
import { startRedis } from "../lib/redis.js";
import { startExample } from "../lib/server.js";
import { inTime } from "../lib/websocket.js";

/** Lease of a server: a claim does not wait for one that has been frozen for longer */
const LEASE = 2000;
/** Longer than the time in which changes of sessions are collected */
const STORED = 500;

describe("a server that was frozen", () => {
  let redis;
  let frozen;
  let other;
  before(async () => (redis = await startRedis()));
  after(() => redis?.stop());
  afterEach(async () => {
    frozen?.thaw();
    await Promise.all([frozen?.stop(), other?.stop()]);
  });

  const start = () => startExample("recovery_server", { redis: `redis://127.0.0.1:${redis.port}`, record: true });

  for (const [when, wait] of [["after its lease has run out", LEASE + 500], ["within its lease", 100]]) {
    test(`runs no handlers of clients that were claimed ${when}`, async () => {
      [frozen, other] = await Promise.all([start(), start()]);
      const [open, closed, stayed] = await Promise.all([1, 2, 3].map(() => connect(frozen)));
      const observer = await connect(other);
      for (const client of [open, closed, stayed, observer]) await client.ask("join", "red");
      await observer.ask("publish", "red", "before");
      await open.has("before");
      await sleep(STORED);

      frozen.freeze();
      // In the buffers of the server's sockets.
      open.socket.emit("say", "red", "from the past");
      closed.socket.emit("say", "red", "from the past");
      await sleep(50);
      closed.socket.io.engine.transport.ws.terminate();
      await sleep(wait);
      const began = Date.now();
      const [openAgain, closedAgain] = await Promise.all([open, closed].map((client) => connect(other, client)));
      const claimed = Date.now() - began;
      if (wait > LEASE) assert(claimed < LEASE / 2, `claims waited for ${claimed} ms`);
      for (const [back, client] of [[openAgain, open], [closedAgain, closed]]) {
        assert.deepEqual([back.socket.recovered, back.socket.id], [true, client.id]);
      }
      await observer.ask("publish", "red", "meanwhile");
      const recorded = frozen.output;
      const lost = once(open.socket, "disconnect");

      frozen.thaw();
      // The server closes the old connection of the moved client, and keeps the other client.
      await inTime(lost, PATIENCE, "the old connection is open");
      assert.deepEqual((await stayed.ask("state")).rooms, ["red"]);
      for (const { id } of [open, closed]) assert.equal(await stayed.ask("present", id), false);
      await observer.ask("publish", "red", "after");
      for (const client of [openAgain, closedAgain, stayed, observer]) await client.has("after");
      await sleep(STORED);
      const record = frozen.output.slice(recorded.length);
      for (const { id } of [open, closed]) assert.equal(record.includes(id), false, record);
      assert(record.includes(`event state of ${stayed.id}`), record);
      // Each is connected once, and hears everything once.
      for (const { id } of [open, closed]) assert.equal(await observer.ask("present", id), true);
      for (const client of [openAgain, closedAgain]) {
        const heard = client.heard;
        assert.deepEqual(heard.filter((text) => text !== "before"), ["meanwhile", "after"]);
        assert.deepEqual((await client.ask("state")).rooms, ["red"]);
      }
      assert.deepEqual(observer.heard, ["before", "meanwhile", "after"]);
      [openAgain, closedAgain, stayed, observer].forEach((client) => client.socket.disconnect());
    });
  }
});

/** A client with the texts that it heard; one that takes the session of another shows its token and offset */
async function connect(server, from) {
  const socket = new Manager(server.url, { forceNew: true, reconnection: false, transports: ["websocket"] }).socket("/");
  if (from) Object.assign(socket, { _pid: from.socket._pid, _lastOffset: from.socket._lastOffset });
  const client = {
    socket,
    heard: [],
    ask: (...event) => socket.timeout(PATIENCE).emitWithAck(...event),
    has: (text) => until(() => client.heard.includes(text), () => `${text} among ${client.heard}`),
  };
  socket.on("told", (text) => client.heard.push(text));
  socket.on("heard", (text) => client.heard.push(text));
  await inTime(once(socket, "connect"), PATIENCE, "no connect");
  return Object.assign(client, { id: socket.id });
}
