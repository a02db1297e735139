// Two Roomcast servers, native, classic and sharded, each behind a proxy to Redis: lost packets, latency, a slow Redis,
// and one that is out of memory or refuses to publish.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { connect, until } from "../lib/cluster.js";
import { request } from "../lib/http.js";
import { withheld } from "../lib/process.js";
import { startRedis } from "../lib/redis.js";
import { startClusterServer } from "../lib/server.js";
import { startUnreliable } from "../lib/unreliable.js";

const QUEUE = 64 << 10;
const TIMEOUT = 500;
/** Excess of a query over its timeout, and time until the servers are whole again */
const LATE = 500;
const WHOLE = 1000;
/** Silence after which queries do not wait for a server */
const OUT = 5000;

for (const mode of ["native", "classic", "sharded-dynamic"]) {
  describe(mode, () => {
    let redis;
    let commands;
    let paths;
    let servers;
    let clients;

    before(async () => {
      process.env.RUST_LOG = "warn";
      redis = await startRedis(["--enable-debug-command", "yes"]);
      commands = new Redis(redis.port);
      paths = [await startUnreliable(redis.port), await startUnreliable(redis.port)];
      servers = [];
      for (const [index, path] of paths.entries()) {
        servers.push(await startClusterServer("roomcast", path.port, { name: `server-${index}`, mode, queue: QUEUE }));
      }
      clients = await Promise.all(servers.map((server) => connect(server, "/")));
      await whole("at the start");
    });

    after(async () => {
      clients?.forEach((client) => client.socket.disconnect());
      for (const server of servers) assert.equal(await server.stop(), "SIGTERM", server.output);
      await Promise.all(paths.map((path) => path.stop()));
      commands.disconnect();
      await redis.stop();
    });

    // A failed test leaves no fault behind.
    afterEach(() => {
      for (const path of paths) {
        path.delay = 0;
        path.resume();
      }
    });

    async function admin(index, path) {
      const [, address] = /metrics on (http:\/\/[^/]+)/.exec(servers[index].output);
      return (await request(`${address}${path}`)).body;
    }
    const metric = async (index, name) =>
      Number(new RegExp(`^roomcast_${name} (.+)$`, "m").exec(await admin(index, "/metrics"))[1]);
    const status = async (index) => (await admin(index, "/ready")).trim().split("cluster ")[1];
    const count = (index, text) => servers[index].output.split(text).length - 1;

    let last = 0;
    /** Whether an event of each server has reached both clients, and both servers know each other */
    async function isWhole() {
      const events = [];
      for (const client of clients) {
        events.push(`whole ${++last}`);
        await client.run("emit", {}, events.at(-1));
      }
      await sleep(20);
      const received = clients.every(({ events: known }) => events.every((event) => known.some(([name]) => name === event)));
      if (!received) return false;
      const found = await Promise.all(clients.map((client) => client.run("find", { timeout: TIMEOUT })));
      return found.every(([sockets, missing]) => sockets === 2 && missing === 0);
    }

    /** Waits until the servers are whole; resolves to the time without that which the machine withheld */
    async function whole(what) {
      const pids = servers.map(({ child }) => child.pid);
      const before = withheld(...pids);
      const time = await until(isWhole, what);
      return time - (withheld(...pids) - before);
    }

    async function expectWhole(context, what) {
      const time = await whole(what);
      context.diagnostic(`${what}: whole after ${Math.round(time)} ms`);
      assert(time < WHOLE, `${what}: ${time} ms`);
      for (const index of [0, 1]) await until(async () => (await status(index)) === "connected", `status of ${index}`);
      clients.forEach((client) => client.take());
    }

    async function deliversLocally(index, event) {
      const begin = Date.now();
      await clients[index].run("emit", {}, event);
      await clients[index].has(event);
      assert(Date.now() - begin < 1000, `local delivery took ${Date.now() - begin} ms`);
    }

    /** Expects a query to end in time with the sockets of that server only; resolves to whether the other is missing */
    async function findsOwn(index) {
      const begin = Date.now();
      const [sockets, missing] = await clients[index].run("find", { timeout: TIMEOUT });
      const time = Date.now() - begin;
      assert(time < TIMEOUT + LATE, `${time} ms`);
      assert.equal(sockets, 1, "the sockets of its own server");
      return missing !== 0;
    }

    // In the sharded mode, the same connections as in the classic one: a sample.
    const isSample = mode === "sharded-dynamic";
    for (const direction of isSample ? ["both"] : ["both", "there", "back"]) {
      for (const end of isSample ? ["cut"] : ["resume", "cut"]) {
        test(`packets are dropped (${direction}), then the path returns (${end})`, async (context) => {
          clients.forEach((client) => client.take());
          paths[1].drop(direction);
          const begin = Date.now();
          // Each still counts the other server.
          assert.equal(await findsOwn(0), true, "the other server is missing");
          assert.equal(await findsOwn(1), true, "the other server is missing");
          await deliversLocally(0, "here");
          await deliversLocally(1, "there");
          await until(async () => (await status(1)) === "degraded", "degraded");
          assert.equal(await status(0), "connected");
          await until(async () => !(await findsOwn(0)), "out of the cluster");
          const time = Date.now() - begin;
          context.diagnostic(`out after ${time} ms`);
          // If only the replies are lost, its heartbeats arrive until it closes the connections.
          const heard = direction === "back" ? 1500 : 0;
          assert(time < OUT + heard + TIMEOUT, `${time} ms`);
          await deliversLocally(0, "still here");
          await deliversLocally(1, "still there");
          paths[1][end]();
          await expectWhole(context, `${direction}, ${end}`);
        });
      }
    }

    test("a frozen server is out within five seconds", async (context) => {
      servers[1].freeze();
      const begin = Date.now();
      try {
        assert.equal(await findsOwn(0), true, "the frozen server is missing");
        await until(async () => !(await findsOwn(0)), "out of the cluster");
        const time = Date.now() - begin;
        context.diagnostic(`out after ${time} ms`);
        assert(time < OUT + TIMEOUT, `${time} ms`);
        await deliversLocally(0, "meanwhile");
      } finally {
        servers[1].thaw();
      }
      await expectWhole(context, "thawed");
    });

    test("what does not fit into the queue is counted, and the rest arrives in order", async (context) => {
      paths[1].drop("both");
      await until(async () => (await status(1)) === "degraded", "degraded");
      const logged = count(1, "does not respond");
      const refusedBefore = await metric(1, "cluster_refused_total");
      clients.forEach((client) => client.take());
      const published = [];
      for (let number = 0; number < 200; number++) {
        published.push(await clients[1].run("emit", {}, "numbered", number, "x".repeat(1000)));
      }
      const accepted = published.flatMap((outcome, number) => (outcome === "accepted" ? [number] : []));
      assert(accepted.length > 20 && accepted.length < 180, `${accepted.length} accepted: ${JSON.stringify(published.at(-1))}`);
      assert.equal((await metric(1, "cluster_refused_total")) - refusedBefore, 200 - accepted.length);
      assert((await metric(1, "cluster_queue_bytes")) <= QUEUE);
      const numbers = (client) => client.events.flatMap(([name, number]) => (name === "numbered" ? [number] : []));
      await until(() => numbers(clients[1]).length === 200, "local delivery");
      assert.equal(count(1, "does not respond"), logged, servers[1].output);
      paths[1].cut();
      await until(() => numbers(clients[0]).length >= accepted.length, () => `${numbers(clients[0])} arrived`);
      assert.deepEqual(numbers(clients[0]), accepted);
      await expectWhole(context, "full queue");
    });

    const SLOW = {
      "a network with latency": () => paths.forEach((path) => (path.delay = 100)),
      "paused clients": () => commands.client("PAUSE", 400, "ALL"),
      "a command that takes long": () => void commands.debug("sleep", 0.4),
    };
    for (const [name, slow] of Object.entries(SLOW)) {
      test(`a slow Redis delays events and loses none: ${name}`, async (context) => {
        const lost = () => Promise.all([0, 1].map((index) => metric(index, "redis_unconfirmed_total")));
        const before = await lost();
        for (let number = 0; number < 50; number++) {
          await clients[0].run("emit", {}, "slow", number);
          if (number === 10) await slow();
        }
        await clients[1].has("slow", 50);
        const numbers = clients[1].events.flatMap(([event, number]) => (event === "slow" ? [number] : []));
        assert.deepEqual(numbers, Array.from({ length: 50 }, (_, number) => number));
        assert.deepEqual(await lost(), before);
        for (const path of paths) path.delay = 0;
        await expectWhole(context, name);
      });
    }

    test("a Redis that does not reply for seconds is away", async (context) => {
      clients.forEach((client) => client.take());
      await commands.client("PAUSE", 3000, "ALL");
      const begin = Date.now();
      await deliversLocally(0, "paused");
      for (const index of [0, 1]) await until(async () => (await status(index)) === "degraded", `status of ${index}`);
      context.diagnostic(`degraded after ${Date.now() - begin} ms`);
      await deliversLocally(0, "queued");
      await sleep(3000 - (Date.now() - begin));
      await clients[1].has("queued");
      await expectWhole(context, "pause");
    });

    test("a Redis without memory still delivers", async (context) => {
      await commands.config("SET", "maxmemory", "1");
      try {
        await assert.rejects(commands.set("key", "value"), /OOM/);
        await expectWhole(context, "no memory");
        for (const index of [0, 1]) assert.equal(await metric(index, "redis_refused_total"), 0);
      } finally {
        await commands.config("SET", "maxmemory", "0");
      }
    });

    test("refused publications are counted, and logged once", async (context) => {
      const before = await metric(1, "redis_refused_total");
      const publish = mode.startsWith("sharded") ? "spublish" : "publish";
      await commands.acl("SETUSER", "default", `-${publish}`);
      for (let number = 0; number < 20; number++) await deliversLocally(1, "refused");
      await until(async () => (await metric(1, "redis_refused_total")) - before >= 20, "counted");
      assert.equal(count(1, "redis refused publications"), 1, servers[1].output);
      assert(!clients[0].events.some(([name]) => name === "refused"));
      await commands.acl("SETUSER", "default", `+${publish}`);
      await expectWhole(context, "refused");
    });
  });
}
