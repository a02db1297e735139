// Node's servers with @socket.io/redis-adapter and a node of Roomcast on one Redis: every operation in both directions.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { Server } from "socket.io";
import { Manager } from "socket.io-client";
import { argsOf, Bridge, BridgeNode } from "../lib/node_bridge.js";
import { LIBRARIES, until } from "../lib/node_cluster.js";
import { PATIENCE } from "../lib/patience.js";
import { startRedis } from "../lib/redis.js";
import { inTime } from "../lib/websocket.js";

const notepack = createRequire(createRequire(import.meta.url).resolve("@socket.io/redis-adapter"))("notepack.io");

let redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis.stop());

async function startNode(library, namespace, options) {
  const { clients, close } = await LIBRARIES[library](redis.port);
  const http = createServer().listen(0, "127.0.0.1");
  await once(http, "listening");
  const server = new Server(http, { adapter: createAdapter(...clients, options), connectTimeout: 60_000 });
  const nsp = server.of(namespace);
  nsp.on("connection", (socket) => {
    socket.data = { name: "node's" };
    socket.join(["all", 7, "a#b", "x".repeat(20)]);
  });
  // By a manager, since a URL would encode the name.
  const client = new Manager(`http://127.0.0.1:${http.address().port}`, { transports: ["websocket"] }).socket(namespace);
  return { server, nsp, client, clients, close, http };
}

const BINARY = { args: '1,{"b":{"_placeholder":true,"num":0}},"é"', attachments: ["00ff"] };
const BINARY_ARGS = [1, { b: Buffer.from([0, 255]) }, "é"];

for (const library of Object.keys(LIBRARIES)) {
  for (const [namespace, own] of [["/", false], ["/chat", true], ["/a*?c", false]]) {
    describe(`${library}, namespace ${namespace}`, () => {
      let node;
      let ours;
      let socketId;
      const failures = [];
      const fail = (error) => failures.push(error);
      before(async () => {
        process.on("uncaughtException", fail).on("unhandledRejection", fail);
        ours = new BridgeNode(redis.port, [
          { id: "ours0", rooms: ["ours0", "all", "7", "a#b"], data: { n: 1 }, handshake: { issued: 1 }, answer: BINARY },
          { id: "ours1", rooms: ["ours1", "all"], data: {}, handshake: {}, answer: { args: '"second"' } },
        ]);
        node = await startNode(library, namespace, { publishOnSpecificResponseChannel: own, requestsTimeout: 3000 });
        await ours.open(namespace, { own });
        await until(() => node.client.connected, "connect");
        socketId = node.client.id;
        // The adapter subscribes without waiting for it.
        let nodes = 0;
        const timer = setInterval(async () => (nodes = await ours.nodes()), 20);
        await until(() => nodes === 2, "two subscribers");
        clearInterval(timer);
        await until(() => node.nsp.sockets.get(socketId)?.rooms.has("all"), "join");
      });
      after(async () => {
        process.off("uncaughtException", fail).off("unhandledRejection", fail);
        node.client.disconnect();
        await node.server.close();
        await node.close();
        await ours.stop();
        assert.deepEqual(failures, [], "no message of ours fails on Node");
      });

      /** Emits on Node; resolves to the events that reached us, up to a marker. */
      async function received(act) {
        ours.log.length = 0;
        await act();
        node.nsp.emit("marker");
        await until(() => ours.log.some(({ name }) => name === "marker"), "marker");
        return ours.log.filter(({ name }) => name !== "marker");
      }

      test("reads broadcasts of Node", async () => {
        const events = await received(() => {
          node.nsp.emit("plain", 1, "two", { three: [null, true, -4, 1.5] });
          node.nsp.emit("binary", ...BINARY_ARGS);
          node.nsp.emit("odd", undefined, { gone: undefined }, new Date(1_700_000_000_123), NaN, new Uint8Array([1]).buffer);
          node.nsp.to("all").to(7).except(["a#b", "nobody"]).volatile.compress(false).emit("flags");
          node.nsp.to("a#b").emit("hash");
          node.nsp.to(7).emit("number");
          node.nsp.to("7").emit("text");
          node.nsp.to("elsewhere").emit("unwanted");
          node.nsp.local.emit("local");
        });
        const shown = events.map(({ name, rooms, except, delivery, compress }) => ({ name, rooms, except, delivery, compress }));
        const plain = { rooms: [], except: [], delivery: "Reliable", compress: true };
        assert.deepEqual(shown, [
          { ...plain, name: "plain" },
          { ...plain, name: "binary" },
          { ...plain, name: "odd" },
          { name: "flags", rooms: ["all", "7"], except: ["a#b", "nobody"], delivery: "Volatile", compress: false },
          { ...plain, name: "hash", rooms: ["a#b"] },
          { ...plain, name: "number", rooms: ["7"] },
          { ...plain, name: "text", rooms: ["7"] },
        ]);
        assert.deepEqual(argsOf(events[0]), [1, "two", { three: [null, true, -4, 1.5] }]);
        assert.deepEqual(argsOf(events[1]), BINARY_ARGS);
        assert.deepEqual(argsOf(events[2]), [null, {}, "2023-11-14T22:13:20.123Z", null, Buffer.from([1])]);
      });

      test("reads changes of rooms and disconnects of Node", async () => {
        const events = await received(() => {
          node.nsp.to(7).except("b").socketsJoin(["c", 8]);
          node.nsp.to("ours1").socketsLeave("all");
          node.nsp.to("ours1").disconnectSockets(true);
        });
        const target = { except: [], delivery: "Reliable" };
        assert.deepEqual(events, [
          { ...target, do: "join", rooms: ["7"], except: ["b"], change: ["c", "8"] },
          { ...target, do: "leave", rooms: ["ours1"], change: ["all"] },
          { ...target, do: "disconnect", rooms: ["ours1"], close: true },
        ]);
      });

      test("answers requests of Node", async () => {
        const fetched = await node.nsp.fetchSockets();
        const remote = fetched.filter(({ id }) => id !== socketId);
        assert.deepEqual(remote.map(({ id, data, rooms }) => ({ id, data, rooms: [...rooms] })), [
          { id: "ours0", data: { n: 1 }, rooms: ["ours0", "all", "7", "a#b"] },
          { id: "ours1", data: {}, rooms: ["ours1", "all"] },
        ]);
        assert.equal((await node.nsp.to("nobody").fetchSockets()).length, 0);
        const rooms = await node.nsp.adapter.allRooms();
        assert(rooms.has("ours1") && rooms.has(socketId), "rooms of both");
      });

      test("answers broadcasts of Node with acknowledgements", async () => {
        node.client.once("question", (...args) => args.pop()("from node"));
        const answers = await node.nsp.timeout(PATIENCE).emitWithAck("question", ...BINARY_ARGS);
        const expected = ["from node", 1, "second"];
        assert.deepEqual(new Set(answers), new Set(expected));
        const [single] = await node.nsp.to("ours1").timeout(PATIENCE).emitWithAck("question");
        assert.equal(single, "second");
        assert.deepEqual(await node.nsp.to("nobody").timeout(1000).emitWithAck("question"), []);
      });

      test("exchanges events between servers", async () => {
        const asked = [];
        node.nsp.on("told", (...args) => asked.push(args));
        node.nsp.on("asked", (...args) => args.pop()({ node: args.length }));
        const events = await received(() => node.nsp.serverSideEmit("hello", 1, { two: [] }));
        assert.deepEqual(events.map((event) => [event.name, argsOf(event)]), [["hello", [1, { two: [] }]]]);
        assert.deepEqual(await node.nsp.serverSideEmitWithAck("question"), ["from roomcast"]);
        await ours.send({ op: "emit", name: "told", args: '1,{"_placeholder":true,"num":0}', attachments: ["0102"] });
        await until(() => asked.length > 0, "event for servers");
        assert.deepEqual(asked, [[1, { type: "Buffer", data: [1, 2] }]]);
        const { answers, missing } = await ours.request({ op: "ask", name: "asked", args: "1,2" });
        assert.deepEqual([answers.map(argsOf), missing], [[[{ node: 2 }]], 0]);
      });

      test("broadcasts to clients of Node", async () => {
        const events = [];
        const listener = (...args) => events.push(args);
        node.client.onAny(listener);
        const emit = (name, rooms, except = [], more = { args: "" }) =>
          ours.send({ op: "broadcast", name, rooms, except, ...more });
        await emit("all", [], [], BINARY);
        for (const room of ["all", "7", "a#b", "x".repeat(20), socketId]) await emit("room", [room], [], { args: JSON.stringify(room) });
        await emit("several", ["7", "elsewhere"], ["nobody"], { args: "", flags: { volatile: true, compress: false, key: "k" } });
        for (const room of ["all", "7", socketId]) await emit("excluded", [], [room]);
        await emit("elsewhere", ["elsewhere"]);
        await emit("end", []);
        await until(() => events.some(([name]) => name === "end"), "end");
        node.client.offAny(listener);
        const rooms = ["all", "7", "a#b", "x".repeat(20), socketId].map((room) => ["room", room]);
        assert.deepEqual(events, [["all", ...BINARY_ARGS], ...rooms, ["several"], ["end"]]);
      });

      test("fetches, counts and collects from Node", async () => {
        const target = (rooms, except = []) => ({ rooms, except });
        const fetched = await ours.request({ op: "fetch", ...target(["7"]) });
        assert.deepEqual([fetched.answers.length, fetched.missing], [1, 0]);
        const [found] = fetched.answers[0];
        assert.equal(found.id, socketId);
        for (const room of ["all", "7", "a#b", "x".repeat(20)]) assert(found.rooms.includes(room), room);
        assert.deepEqual(JSON.parse(found.data), { name: "node's" });
        assert.equal(JSON.parse(found.handshake).address, "127.0.0.1");
        for (const [rooms, except, count] of [[[], [], 1], [["7"], [], 1], [["nobody"], [], 0], [[], ["7"], 0]]) {
          const counted = await ours.request({ op: "count", ...target(rooms, except) });
          assert.deepEqual(counted, { answers: [{ count }], missing: 0 });
        }
        node.client.once("question", (...args) => args.pop()({ b: Buffer.from([7]) }, "dropped"));
        const collected = await ours.request({ op: "collect", name: "question", ...target(["7"]), ...BINARY });
        assert.deepEqual([collected.answers[0], collected.missing], [{ recipients: 1 }, 0]);
        assert.deepEqual(argsOf(collected.answers[1]), [{ b: Buffer.from([7]) }]);
        const none = await ours.request({ op: "collect", name: "question", args: "", ...target(["nobody"]) });
        assert.deepEqual(none, { answers: [{ recipients: 0 }], missing: 0 });
      });

      test("changes rooms of sockets on Node", async () => {
        const { rooms } = node.nsp.sockets.get(socketId);
        await ours.send({ op: "join", rooms: ["7"], except: ["nobody"], change: ["new", "9"] });
        await until(() => rooms.has("9"), "join");
        assert(rooms.has("new"));
        await ours.send({ op: "leave", rooms: ["new"], except: [], change: ["9", "7"] });
        await until(() => !rooms.has("9"), "leave");
        assert(!rooms.has(7), "left by its number");
        node.nsp.sockets.get(socketId).join(7);
      });

      test("reads the emitter", async () => {
        const emitter = new Emitter(node.clients[0]).of(namespace);
        const events = await received(() => {
          emitter.emit("plain", ...BINARY_ARGS);
          emitter.to(["a#b", "all"]).except(8).volatile.emit("flags");
          emitter.to("a#b").emit("room");
          emitter.in("all").socketsJoin("new");
          emitter.in("all").socketsLeave("new");
          emitter.in("all").disconnectSockets();
          emitter.serverSideEmit("hello", 1);
        });
        const expected = ["plain", "flags", "room", "join", "leave", "disconnect", "hello"];
        assert.deepEqual(events.map((event) => event.name ?? event.do), expected);
        assert.deepEqual(argsOf(events[0]), BINARY_ARGS);
        assert.deepEqual([events[1].rooms, events[1].except], [["a#b", "all"], ["8"]]);
        await until(() => !node.client.connected, "disconnect");
      });
    });
  }
}

test("disconnects a socket of Node", async () => {
  const ours = new BridgeNode(redis.port, []);
  const node = await startNode("ioredis", "/left");
  await ours.open("/left");
  await until(() => node.client.connected, "connect");
  const disconnected = once(node.client, "disconnect");
  await ours.send({ op: "disconnect", rooms: [node.client.id], except: [], close: false });
  const [reason] = await inTime(disconnected, PATIENCE, "no disconnect");
  assert.equal(reason, "io server disconnect");
  node.client.disconnect();
  await node.server.close();
  await node.close();
  await ours.stop();
});

const MESSAGES = Number(process.env.ROOMCAST_CLUSTER_MESSAGES || 100_000);
const BATCH = 2_000;

test(`Node reads ${MESSAGES} generated messages like us`, async () => {
  const bridge = new Bridge();
  await bridge.run({ op: "open", name: "/generated" });
  const named = (rooms) => rooms.flatMap((room) => (/^(0|-?[1-9][0-9]*)$/.test(room) ? [room, Number(room)] : [room]));
  for (let seed = 0; seed * BATCH < MESSAGES; seed++) {
    for (const message of await bridge.run({ op: "generate", seed, messages: BATCH })) {
      const [, packet, opts] = notepack.decode(Buffer.from(message.payload, "hex"));
      assert.deepEqual(packet, { type: 2, data: ["e", ...argsOf(message)], nsp: "/generated" });
      assert.deepEqual([opts.rooms, opts.except], [named(message.rooms), named(message.except)]);
    }
  }
  await bridge.stop();
});

test(`we read ${MESSAGES} generated messages like Node`, async () => {
  const bridge = new Bridge();
  await bridge.run({ op: "open", name: "/" });
  let state = 1;
  const below = (limit) => (state = (state * 48_271) % 2_147_483_647) % limit;
  const textOf = () => String.fromCodePoint(...Array.from({ length: below(40) }, () => [97 + below(26), below(0x20), 0x1f600 + below(60)][below(3)]));
  const scalars = [
    () => null, () => undefined, () => below(2) === 0, () => below(300) - 150, () => (below(2 ** 30) - 2 ** 29) * 2 ** below(24),
    () => below(1e9) / 7, textOf, () => "é".repeat(below(200)), () => Buffer.alloc(below(400), below(256)), () => new Date(below(2 ** 31) * 1000 + below(1000)),
  ];
  const value = (depth) => {
    const kind = below(depth === 0 ? scalars.length : scalars.length + 2);
    if (kind < scalars.length) return scalars[kind]();
    const items = Array.from({ length: below(depth === 1 ? 18 : 4) }, () => value(depth - 1));
    return kind === scalars.length ? items : Object.fromEntries(items.map((item, index) => [`${textOf()}${index}`, item]));
  };
  /** The value as JSON would have it, but with bytes */
  const plain = (item, inList) => {
    if (item === undefined) return inList ? null : undefined;
    if (item instanceof Date) return item.toJSON();
    if (item === null || typeof item !== "object" || Buffer.isBuffer(item)) return item;
    if (Array.isArray(item)) return item.map((inner) => plain(inner, true));
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, plain(inner)]).filter(([, inner]) => inner !== undefined));
  };
  for (let done = 0; done < MESSAGES; done += BATCH) {
    const batch = Array.from({ length: BATCH }, async () => {
      const args = Array.from({ length: below(4) }, () => value(3));
      const opts = { rooms: [below(9)], except: [textOf()], flags: below(2) ? { volatile: true } : {} };
      const payload = notepack.encode(["other1", { type: 2, data: ["e", ...args], nsp: "/" }, opts]);
      const [action] = await bridge.run({ op: "message", channel: "socket.io#/#", payload: payload.toString("hex") });
      assert.deepEqual(argsOf(action), args.map((arg) => plain(arg, true)));
      assert.deepEqual([action.rooms, action.except], [opts.rooms.map(String), opts.except]);
      assert.equal(action.delivery, opts.flags.volatile ? "Volatile" : "Reliable");
    });
    await Promise.all(batch);
  }
  await bridge.stop();
});
