// Servers of Roomcast and of Node with the sharded adapter on a Redis Cluster of three masters and their replicas.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, NAMES, until } from "../lib/cluster.js";
import { SocketIoMember } from "../lib/members.js";
import { withheld } from "../lib/process.js";
import { startRedisCluster } from "../lib/redis_cluster.js";
import { binary, startClusterServer, startDemo } from "../lib/server.js";
import { registerOperations } from "./operations.js";

/**
 * Limit for the time in which the servers hear each other after the new master accepts, in milliseconds: ten times what
 * an idle machine needs at most. The measured time is in the output.
 */
const LIMIT = 10_000;

const url = (cluster) => `redis://${cluster.ports.map((port) => `127.0.0.1:${port}`).join(",")}`;

async function startStore() {
  const cluster = await startRedisCluster();
  const counted = (namespace) =>
    until(async () => (await cluster.subscribers(`socket.io#${namespace}#`)) === NAMES.length, "all servers subscribe");
  return { ports: cluster.ports, counted, stop: cluster.stop };
}

describe("operations", () => {
  registerOperations("sharded-dynamic", undefined, { startStore, namespaces: ["/", "/chat"], ordered: false });
});

describe("the command", () => {
  let cluster;
  let servers;
  let members;
  const nodes = {};
  const clients = {};

  before(async () => {
    process.env.RUST_LOG = "warn";
    cluster = await startRedisCluster();
    const flags = { redis: url(cluster), "redis-mode": "sharded" };
    servers = await Promise.all([startDemo(0, flags), startDemo(0, flags)]);
    for (const library of ["ioredis", "redis"]) {
      nodes[library] = await startClusterServer(library, cluster.ports, { name: library, mode: "sharded-dynamic" });
      clients[library] = await connect(nodes[library], "/");
    }
    members = await Promise.all(servers.map((server) => new SocketIoMember(server.url, 4, "websocket").connected()));
    for (const member of members) await member.request("join", "all");
    await until(async () => (await cluster.subscribers("socket.io#/#")) === 4, "all servers subscribe");
    await until(async () => (await cluster.subscribers("socket.io#/#all#")) === 4, "all servers subscribe to the room");
  });

  after(async () => {
    Object.values(clients).forEach(({ socket }) => socket.disconnect());
    await Promise.all(members?.map((member) => member.close()) ?? []);
    for (const [library, server] of Object.entries(nodes)) {
      assert.equal(await server.stop(), "SIGTERM", `${library} ended by itself: ${server.output}`);
    }
    await Promise.all(servers?.map((server) => server.stop()) ?? []);
    await cluster?.stop();
  });

  let last = 0;
  /** Sends an event from a server of Roomcast until a condition on its text holds; resolves to the time */
  async function sendUntil(send, holds, what) {
    return until(async () => {
      const text = `text ${++last}`;
      await send(text);
      await sleep(20);
      return holds(text);
    }, what);
  }
  const heard = (index, event, text) => members[index].log.some(([name, said]) => name === event && said.text === text);
  const toRoom = (text) => members[0].request("room", "all", text);
  const fromNode = (library) =>
    sendUntil(
      (text) => clients[library].run("emit", { to: ["all"] }, "from node", { text }),
      (text) => [0, 1].every((index) => heard(index, "from node", text)),
      `an event of Node by ${library}`,
    );
  const toNode = (library) =>
    sendUntil(
      toRoom,
      (text) => clients[library].events.some(([name, said]) => name === "room" && said.text === text),
      `an event for Node by ${library}`,
    );

  test("servers of the command and of Node share rooms", async () => {
    for (const library of Object.keys(nodes)) {
      await fromNode(library);
      await toNode(library);
    }
    await sendUntil((text) => members[0].request("everyone", text), (text) => heard(1, "everyone", text), "an event for all");
  });

  for (const [what, channel, event, send] of [
    ["all", "socket.io#/#", "everyone", (text) => members[0].request("everyone", text)],
    ["a room", "socket.io#/#all#", "room", toRoom],
  ]) {
    test(`a failover interrupts events for ${what}, and loses no subscription`, async (context) => {
      const master = await cluster.masterOf(channel);
      const replica = (master + 3) % 6;
      await cluster.servers[master].kill();
      const begin = Date.now();
      // Its own clients hear it meanwhile.
      await send("meanwhile");
      assert(heard(0, event, "meanwhile"), "local delivery");
      assert(Date.now() - begin < LIMIT, "local delivery is not delayed");
      await until(() => cluster.isMaster(replica), "a new master");
      const pids = [...servers.map(({ child }) => child.pid), cluster.servers[replica].pid];
      const before = withheld(...pids);
      const elapsed = await sendUntil(send, (text) => heard(1, event, text), "an event for the other server");
      const time = Math.round(elapsed - (withheld(...pids) - before));
      context.diagnostic(`events for ${what} arrived ${time} ms after the new master accepted`);
      assert(time < LIMIT, `${time} ms`);
      // Both servers of Roomcast are subscribed.
      const running = [...cluster.servers.keys()].filter((index) => index !== master);
      const count = await cluster.subscribers(channel, running);
      assert(count >= 2, `${count} subscribers`);
      for (const library of Object.keys(nodes)) {
        context.diagnostic(`from Node by ${library} after ${await fromNode(library)} ms`);
      }
      context.diagnostic(`${count} of 4 servers are subscribed`);
      await cluster.servers[master].restart();
      await until(() => cluster.isWhole(), "the former master follows");
    });
  }

  test("the servers log and count the interruption, and go on", async () => {
    for (const server of servers) {
      assert.match(server.output, /redis/i, server.output);
      assert.doesNotMatch(server.output, /panicked/);
    }
    await sendUntil(toRoom, (text) => heard(1, "room", text), "an event for the room");
  });

  test("native mode refuses a Redis Cluster", () => {
    const args = ["serve", "--addr", "127.0.0.1:0", "--redis", url(cluster), "--redis-mode", "native"];
    const { status, stderr } = spawnSync(binary("roomcast"), args, { encoding: "utf8", timeout: 10_000 });
    assert.notEqual(status, 0);
    assert.match(stderr, /several servers are a Redis Cluster, which only the sharded mode uses/);
  });
});
