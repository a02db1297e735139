// Outages of Redis and of servers in a cluster of Roomcast and Node servers, with the classic and the sharded adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { connect, counted, NAMES, SERVERS, until } from "../lib/cluster.js";
import { startRedis } from "../lib/redis.js";
import { startClusterServer } from "../lib/server.js";

for (const mode of ["classic", "sharded-dynamic"]) {
  describe(mode, () => registerOutages(mode));
}

function registerOutages(mode) {
  let redis;
  let commands;
  const servers = {};
  const clients = {};
  const stopped = new Set();

  before(async () => {
    redis = await startRedis();
    commands = new Redis(redis.port, { maxRetriesPerRequest: null });
    commands.on("error", () => {});
    for (const name of NAMES) {
      servers[name] = await startClusterServer(SERVERS[name], redis.port, { name: name.replace(" ", "-"), mode });
      clients[name] = await connect(servers[name], "/");
    }
    await counted(commands, "/", NAMES.length, mode);
  });

  after(async () => {
    for (const name of NAMES) {
      clients[name]?.socket.disconnect();
      const outcome = await servers[name]?.stop();
      if (!stopped.has(name)) assert.equal(outcome, "SIGTERM", `${name} ended by itself: ${servers[name]?.output}`);
    }
    commands.disconnect();
    await redis.stop();
  });

  const ours = ["roomcast 1", "roomcast 2"];
  const status = (name) => clients[name].run("status");

  /** Waits until an event of each server reaches all clients */
  async function whole(names = NAMES) {
    for (const from of names) {
      const event = `whole from ${from}`;
      await until(async () => {
        await clients[from].run("emit", {}, event);
        await sleep(20);
        return names.every((name) => clients[name].events.some(([known]) => known === event));
      }, event);
    }
  }

  /** Checks that an event of a server reaches its own client at once */
  async function deliversLocally(name, event) {
    const begin = Date.now();
    await clients[name].run("emit", {}, event);
    await clients[name].has(event);
    assert(Date.now() - begin < 1000, `local delivery took ${Date.now() - begin} ms`);
  }

  test("restart of Redis", async (context) => {
    await redis.kill();
    for (const name of ours) await until(async () => (await status(name)) === "degraded", `status of ${name}`);
    for (let number = 0; number < 20; number++) await deliversLocally(ours[0], "queued");
    assert.match(await clients[ours[0]].run("fetch", { timeout: 300 }), /unknown number of nodes/);
    clients[ours[1]].take();
    await redis.restart();
    const begin = Date.now();
    await clients[ours[1]].has("queued", 20);
    const time = Date.now() - begin;
    context.diagnostic(`Roomcast servers were whole ${time} ms after the return of Redis`);
    assert(time < 2000, `${time} ms`);
    for (const name of ours) assert.equal(await status(name), "connected");
    await whole();
    await counted(commands, "/", NAMES.length, mode);
    assert.equal((await clients[ours[0]].run("fetch")).length, NAMES.length);
  });

  test("frozen Redis", async () => {
    redis.freeze();
    await deliversLocally(ours[0], "while frozen");
    await until(async () => (await status(ours[0])) === "degraded", "status");
    await deliversLocally(ours[0], "while degraded");
    redis.thaw();
    await whole();
    await counted(commands, "/", NAMES.length, mode);
    assert.equal((await clients.redis.run("fetch")).length, NAMES.length);
  });

  test("frozen Node server", async () => {
    servers.ioredis.freeze();
    assert.equal(await clients[ours[0]].run("fetch", { timeout: 300 }), "1 nodes did not answer in time");
    clients[ours[1]].answer = ["here"];
    assert.equal(await clients[ours[0]].run("ask", { to: ["all"], timeout: 300 }, "question"), false);
    servers.ioredis.thaw();
    await whole();
    assert.equal((await clients[ours[0]].run("fetch")).length, NAMES.length);
  });

  test("frozen Roomcast server", async () => {
    servers[ours[1]].freeze();
    const begin = Date.now();
    assert.equal(await clients[ours[0]].run("fetch", { timeout: 300 }), "1 nodes did not answer in time");
    assert(Date.now() - begin < 2000);
    servers[ours[1]].thaw();
    await whole();
    assert.equal((await clients.redis.run("fetch")).length, NAMES.length);
  });

  test("end of servers", async () => {
    for (const name of ["ioredis", ours[1]]) {
      stopped.add(name);
      servers[name].child.kill("SIGKILL");
      await servers[name].exited;
    }
    const rest = NAMES.filter((name) => !stopped.has(name));
    await counted(commands, "/", rest.length, mode);
    for (const name of rest) assert.equal((await clients[name].run("fetch")).length, rest.length);
    await whole(rest);
  });
}
