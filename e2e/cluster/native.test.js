// Servers of Roomcast on one Redis, with real clients: broadcasts, acknowledgements, and the faults of servers and Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import { request } from "../lib/http.js";
import { JsonMember, PlainMember, SocketIoMember, until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { withheld } from "../lib/process.js";
import { startRedis } from "../lib/redis.js";
import { lastingPort, startDemo, startExample, startTwoNodes } from "../lib/server.js";
import { Talk } from "../lib/talk.js";

const KINDS = ["polling", "websocket", "upgrade", "plain", "json"];
const PATTERNS = { everyone: [true, false], others: [false, false], room: [true, true], "room-others": [false, true] };

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
const url = (redis) => `redis://127.0.0.1:${redis.port}`;
const startServer = (redis, port) => startDemo(port, { redis: url(redis), "admin-addr": "127.0.0.1:0" });

async function admin(server, path) {
  const [, address] = /metrics +(http:\/\/[^/]+)\/metrics/.exec(server.output);
  return (await request(`${address}${path}`)).body;
}

const status = async (server) => (await admin(server, "/ready")).trim().split("cluster ")[1];
const metric = async (server, name) =>
  Number(new RegExp(`^roomcast_${name} (.+)$`, "m").exec(await admin(server, "/metrics"))[1]);

/** Waits for a condition that is a promise; resolves to the time in milliseconds */
async function eventually(condition, what, limit = PATIENCE) {
  const begun = Date.now();
  while (!(await condition())) {
    assert(Date.now() - begun < limit, `not ${what} within ${limit} ms`);
    await pause(20);
  }
  return Date.now() - begun;
}

const has = (count) => async (server) => (await metric(server, "cluster_nodes")) === count;
const all = async (servers, condition) => (await Promise.all(servers.map(condition))).every(Boolean);
/** Expects servers to be connected again within a second, without the time that the machine withheld */
async function expectWhole(servers) {
  const pids = servers.map((server) => server.child.pid);
  const before = withheld(...pids);
  const time = await eventually(isWhole(servers), "whole");
  assert(time - (withheld(...pids) - before) < 1000, `${time} ms until both servers are connected`);
}

const isWhole = (servers) => async () =>
  (await all(servers, has(servers.length - 1))) && (await all(servers, async (server) => (await status(server)) === "connected"));

async function openMember(kind, server) {
  const open = { plain: () => PlainMember.open(server.url), json: () => JsonMember.open(server.url) };
  const member = await (open[kind]?.() ?? new SocketIoMember(server.url, 4, kind));
  member.kind = kind;
  return member.connected();
}

const texts = (member, event) => member.log.filter(([name]) => name === event).map(([, { text }]) => text);

/** Expects these texts at each member, in order; each exactly once */
async function expectTexts(members, event, expected) {
  for (const member of members) {
    await until(() => texts(member, event).length >= expected.length, `${member.name}: ${expected} missing, ${texts(member, event)}`);
    assert.deepEqual(texts(member, event), expected, member.name);
  }
}

async function end(members, servers, redis) {
  await Promise.all(members.map((member) => member.close()));
  // A polling client that has not said goodbye yet would delay the shutdown.
  await pause(200);
  await Promise.all(servers.map((server) => server.stop()));
  await redis.stop();
}

describe("broadcasts of two servers", () => {
  let redis;
  let servers;
  let members;
  before(async () => {
    redis = await startRedis();
    servers = await Promise.all([startServer(redis), startServer(redis)]);
    await eventually(isWhole(servers), "connected");
    members = await Promise.all(servers.flatMap((server) => KINDS.map((kind) => openMember(kind, server))));
    // The first members of a room on a server wait for its subscription in no handler of the demo.
    for (const member of members.filter((_, index) => index % 2 === 0)) await member.request("join", "red");
    await eventually(async () => all(servers, async (server) => (await metric(server, "cluster_channels")) >= 5), "subscribed");
    await pause(100);
  });
  after(async () => {
    await end(members, servers, redis);
  });

  for (const [pattern, [toSender, toRoom]] of Object.entries(PATTERNS)) {
    test(`${pattern}: each recipient on both servers gets it once`, async () => {
      members.forEach((member) => (member.log.length = 0));
      for (const sender of members) await sender.cast(pattern, "red", `${pattern} of ${sender.name}`);
      // A last event of each server, behind all others.
      for (const sender of [members[1], members[KINDS.length + 1]]) await sender.cast("everyone", "", "end");
      for (const [index, member] of members.entries()) {
        const ends = () => texts(member, "everyone").filter((text) => text === "end").length;
        await until(() => ends() === 2, `${member.name}: no end`);
        const isIn = !toRoom || index % 2 === 0;
        const expected = members
          .filter((sender) => isIn && (toSender || sender !== member))
          .map((sender) => `${pattern} of ${sender.name}`);
        const received = texts(member, pattern).filter((text) => text !== "end");
        assert.deepEqual(received.sort(), expected.sort(), member.name);
      }
    });
  }

  test("keeps the order of a sender", async () => {
    members.forEach((member) => (member.log.length = 0));
    const sent = Array.from({ length: 500 }, (_, number) => `message ${number}`);
    const sender = members[1];
    sent.forEach((text) => sender.socket.emit("everyone", text));
    await expectTexts(members, "everyone", sent);
  });
});

describe("two servers with an application", () => {
  let redis;
  let servers;
  let clients;
  before(async () => {
    redis = await startRedis();
    servers = await Promise.all([1, 2].map(() => startExample("cluster_chat", { redis: url(redis) })));
    const transports = [["polling"], ["websocket"], ["polling", "websocket"]];
    const talks = servers.flatMap((server) => transports.map((transports) => new Talk(server.url, { transports })));
    clients = await Promise.all(talks.map((talk) => talk.connected()));
    for (const client of clients) assert.equal(await client.ask("join", "red"), true, "the subscription is confirmed");
    const counted = async () => (await clients[0].ask("list", "red")).length === clients.length;
    await eventually(counted, "joined");
  });
  after(async () => {
    clients.forEach((client) => client.leave());
    await Promise.all(servers.map((server) => server.stop()));
    await redis.stop();
  });

  test("collects acknowledgements of clients on both", async () => {
    clients.forEach((client, index) => client.socket.on("question", (question, answer) => answer([index, question])));
    for (const [index, client] of clients.entries()) {
      const { answers, complete, missingNodes } = await client.ask("ask", "red", `of ${index}`);
      const expected = clients.map((_, other) => [other, `of ${index}`]).filter(([other]) => other !== index);
      assert.deepEqual(answers.sort(), expected);
      assert.deepEqual([complete, missingNodes], [true, 0]);
    }
  });

  test("a frozen server is reported as missing", async () => {
    servers[1].child.kill("SIGSTOP");
    try {
      const { answers, complete, missingNodes } = await clients[0].ask("ask", "red", "frozen");
      assert.deepEqual(answers.sort(), [[1, "frozen"], [2, "frozen"]]);
      assert.deepEqual([complete, missingNodes], [false, 1]);
      assert.equal((await clients[0].ask("list", "red")).length, 3, "the list has the clients of this server");
    } finally {
      servers[1].child.kill("SIGCONT");
    }
    const whole = async () => (await clients[0].ask("list", "red")).length === clients.length;
    await eventually(whole, "whole again");
  });

  test("disconnects a client of the other server", async () => {
    const [kicked] = clients.splice(3, 1);
    const reason = new Promise((resolve) => kicked.socket.once("disconnect", resolve));
    clients[0].emit("kick", kicked.socket.id);
    assert.equal(await reason, "io server disconnect");
  });
});

describe("faults", () => {
  let redis;
  let servers;
  let members;
  before(async () => {
    redis = await startRedis();
    servers = await Promise.all([startServer(redis, await lastingPort()), startServer(redis, await lastingPort())]);
    await eventually(isWhole(servers), "connected");
    members = await Promise.all(servers.flatMap((server) => ["polling", "websocket", "plain"].map((kind) => openMember(kind, server))));
  });
  after(async () => {
    await end(members, servers, redis);
  });
  const here = () => members.slice(0, 3);
  const there = () => members.slice(3);
  const forget = () => members.forEach((member) => (member.log.length = 0));

  test("Redis killed and restarted: whole again within a second", async () => {
    forget();
    await redis.kill();
    await eventually(async () => all(servers, async (server) => (await status(server)) === "degraded"), "degraded");
    await here()[0].cast("everyone", "", "alone");
    await expectTexts(here(), "everyone", ["alone"]);
    // A client is accepted meanwhile.
    const late = await openMember("websocket", servers[0]);
    await redis.restart();
    await expectWhole(servers);
    await here()[1].cast("everyone", "", "together");
    for (const member of [...here(), late]) await until(() => texts(member, "everyone").includes("together"), `${member.name}: nothing`);
    // Publications of the outage wait in the queue, and precede later ones.
    for (const member of there()) {
      await until(() => texts(member, "everyone").includes("together"), `${member.name}: nothing`);
      assert(["alone,together", "together"].includes(texts(member, "everyone").join()), `${member.name}: ${texts(member, "everyone")}`);
    }
    await late.close();
  });

  test("Redis frozen: local clients continue, the rest follows in order", async () => {
    forget();
    const gaps = await metric(servers[1], "cluster_gaps_total");
    redis.freeze();
    try {
      await here()[0].cast("everyone", "", "first");
      await expectTexts(here(), "everyone", ["first"]);
      await eventually(async () => (await status(servers[0])) === "degraded", "degraded");
      await here()[0].cast("everyone", "", "second");
      await expectTexts(here(), "everyone", ["first", "second"]);
      assert.deepEqual(texts(there()[0], "everyone"), []);
    } finally {
      redis.thaw();
    }
    await expectWhole(servers);
    await here()[0].cast("everyone", "", "third");
    for (const member of there()) {
      await until(() => texts(member, "everyone").includes("third"), `${member.name}: nothing`);
      const received = texts(member, "everyone");
      assert.deepEqual(received, ["first", "second", "third"].filter((text) => received.includes(text)), member.name);
      // Redis may have dropped them with the connections, which the other server notices.
      if (received.length < 3) await eventually(async () => (await metric(servers[1], "cluster_gaps_total")) > gaps, "counted");
    }
  });

  test("a killed server is noticed, and its clients return to its successor", async () => {
    forget();
    const [survivor, killed] = servers;
    const client = io(killed.url, { forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 200 });
    const heard = [];
    client.on("everyone", ({ text }) => heard.push(text));
    await until(() => client.connected, "no connect");
    const id = client.id;
    await Promise.all(there().map((member) => member.close()));
    members.length = 3;
    killed.child.kill("SIGKILL");
    await killed.exited;
    await here()[0].cast("everyone", "", "alone");
    await expectTexts(here(), "everyone", ["alone"]);
    const time = await eventually(async () => has(0)(survivor), "declared dead");
    assert(time < 7000, `${time} ms until the server is declared dead`);
    servers[1] = await startServer(redis, killed.port);
    await until(() => client.connected && client.id !== id, "no reconnect");
    await eventually(isWhole(servers), "whole");
    await here()[2].cast("everyone", "", "together");
    await until(() => heard.includes("together"), "the client missed it");
    assert.deepEqual(heard, ["together"]);
    client.close();
  });
});

test("a server starts without Redis, and joins when it comes", async () => {
  const redis = await startRedis();
  const other = await startServer(redis);
  await redis.kill();
  const server = await startServer(redis);
  const members = [];
  try {
    members.push(...(await Promise.all(KINDS.map((kind) => openMember(kind, server)))));
    await members[0].cast("everyone", "", "alone");
    await expectTexts(members, "everyone", ["alone"]);
    assert.equal(await status(server), "degraded");
    const count = (text) => server.output.split(text).length - 1;
    await pause(1500);
    assert.equal(count("message engine of the cluster does not respond"), 1, server.output);
    assert.equal(count("redis connection lost"), 2, server.output);
    await redis.restart();
    await expectWhole([server, other]);
    const there = await openMember("websocket", other);
    await there.cast("everyone", "", "together");
    for (const member of members) await until(() => texts(member, "everyone").includes("together"), `${member.name}: nothing`);
    members.push(there);
  } finally {
    await end(members, [server, other], redis);
  }
});

test("one command starts two servers behind a load balancer", async () => {
  const balancer = await startTwoNodes();
  const members = [];
  try {
    for (const kind of [...KINDS, ...KINDS]) members.push(await openMember(kind, balancer));
    const servers = new Set(members.map(({ id }) => id.slice(0, 8)));
    assert.equal(servers.size, 2, "sessions are on both servers");
    for (const [index, member] of members.entries()) {
      await member.cast("everyone", "", `of ${index}`);
      for (const other of members) await until(() => texts(other, "everyone").length > index, `${other.name}: nothing`);
    }
    members.forEach((member) => assert.equal(texts(member, "everyone").length, members.length, member.name));
    // A client of a killed server connects to the other one.
    const client = io(balancer.url, { forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 200 });
    await until(() => client.connected, "no connect");
    const id = client.id;
    for (const [, url, pid] of balancer.output.matchAll(/server \d +(http:\S+)\/ +\(process (\d+)/g)) {
      const member = await openMember("plain", { url });
      members.push(member);
      // The ids of a server's sockets begin alike.
      if (member.id.slice(0, 8) === id.slice(0, 8)) process.kill(Number(pid), "SIGKILL");
    }
    await until(() => client.connected && client.id !== id, "no reconnect");
    assert(servers.has(client.id.slice(0, 8)) && client.id.slice(0, 8) !== id.slice(0, 8), "it is on the other server");
    client.close();
  } finally {
    await Promise.all(members.map((member) => member.close()));
    await pause(200);
    await balancer.stop();
  }
});

test("a password is neither logged nor shown", async () => {
  const redis = await startRedis(["--requirepass", "hunter2"]);
  const server = await startDemo(0, { redis: `redis://:wrong-secret@127.0.0.1:${redis.port}`, "admin-addr": "127.0.0.1:0" });
  try {
    await eventually(() => server.output.includes("WRONGPASS"), "logged");
    assert(!/wrong-secret/.test(server.output + (await admin(server, "/metrics"))), server.output);
    assert.match(server.output, /password in --redis is visible/);
  } finally {
    await server.stop();
    await redis.stop();
  }
});
