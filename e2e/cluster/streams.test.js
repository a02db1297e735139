// The stream of @socket.io/redis-streams-adapter: order, offsets, recovery across nodes, and gaps.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { argsOf, BridgeNode } from "../lib/node_bridge.js";
import { ADAPTERS, startNode, until } from "../lib/node_cluster.js";
import { startRedis } from "../lib/redis.js";

const STREAM = "socket.io";
const RECOVERY = { connectionStateRecovery: { maxDisconnectionDuration: 60_000 } };
const BINARY = { args: '{"b":{"_placeholder":true,"num":0}}', attachments: ["00ff"] };
const to = (rooms, except = []) => ({ rooms, except });

let redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis.stop());

/** A server of Node and a node of Roomcast in a separate namespace */
async function cluster(context, namespace, { options = RECOVERY, adapterOptions, ours: more } = {}) {
  const ours = new BridgeNode(redis.port, []);
  const node = await startNode(redis.port, { adapter: "streams", namespace, options, adapterOptions });
  context.after(async () => {
    await ours.stop();
    await node.close();
  });
  await ours.open(namespace, { ...ADAPTERS.streams.ours, ...more });
  const blocked = async () => Number(/blocked_clients:(\d+)/.exec(await ours.publisher.info("clients"))[1]);
  await until(async () => (await blocked()) === 2, "readers of the stream");
  await until(() => node.nsp.sockets.get(node.client.id)?.rooms.has("all"), "join");
  return { node, ours };
}

/** The entries of a namespace, as offsets and events */
async function stored(ours, namespace) {
  const entries = await ours.publisher.xrange(STREAM, "-", "+");
  const read = entries.map(([id, fields]) => [id, Object.fromEntries(fields.map((field, index) => [field, fields[index + 1]]))]);
  return read.filter(([, { nsp, type }]) => nsp === namespace && type === "3").map(([id]) => id);
}

test("all nodes deliver events in the order of the stream", async (context) => {
  const { node, ours } = await cluster(context, "/order");
  const received = [];
  node.client.onAny((name, ...args) => received.push([name, args.at(-1)]));
  for (let number = 0; number < 100; number++) {
    node.nsp.emit(`node${number}`);
    await ours.send({ op: "broadcast", name: `ours${number}`, ...to([]), args: "" });
  }
  await until(() => ours.log.length === 200 && received.length === 200, "all events");
  const offsets = await stored(ours, "/order");
  assert.deepEqual(ours.log.map(({ offset }) => offset), offsets);
  // Node delivers its own events when they are stored, and ours when it reads them.
  assert.deepEqual(new Map(received), new Map(ours.log.map(({ name, offset }) => [name, offset])));
  assert.deepEqual(received.filter(([name]) => name.startsWith("ours")).map(([, offset]) => offset), ours.log.filter(({ name }) => name.startsWith("ours")).map(({ offset }) => offset));
});

test("volatile events have no offset", async (context) => {
  const { node, ours } = await cluster(context, "/volatile");
  const received = [];
  node.client.onAny((...args) => received.push(args));
  node.nsp.volatile.emit("node");
  await ours.send({ op: "broadcast", name: "ours", ...to([]), args: "", flags: { volatile: true } });
  await until(() => ours.log.length === 2 && received.length === 2, "events");
  assert.deepEqual(ours.log.map(({ name, offset }) => [name, offset]), [["node", null], ["ours", null]]);
  assert.deepEqual(new Set(received.map(([name, ...args]) => `${name} ${args.length}`)), new Set(["node 0", "ours 0"]));
});

for (const plaintext of [false, true]) {
  test(`binary crosses ${plaintext ? "as text of a Buffer" : "as bytes"}`, async (context) => {
    const namespace = `/plaintext${plaintext}`;
    const { node, ours } = await cluster(context, namespace, { options: {}, adapterOptions: { onlyPlaintext: plaintext }, ours: { plaintext } });
    const expected = plaintext ? { type: "Buffer", data: [0, 255] } : Buffer.from([0, 255]);
    const received = once(node.client, "ours");
    await ours.send({ op: "broadcast", name: "ours", ...to([]), ...BINARY });
    assert.deepEqual(await received, [{ b: expected }]);
    node.nsp.emit("node", { b: Buffer.from([0, 255]) });
    await until(() => ours.log.length === 2, "events");
    // An own event is delivered as it was emitted.
    assert.deepEqual(ours.log.map(argsOf), [[{ b: Buffer.from([0, 255]) }], [{ b: expected }]]);
  });
}

test("session that Node stored is recovered by us", async (context) => {
  const namespace = "/from-node";
  const { node, ours } = await cluster(context, namespace);
  const { client } = node;
  const first = once(client, "first");
  node.nsp.emit("first");
  const [offset] = await first;
  node.nsp.sockets.get(client.id).data = { name: "é", b: Buffer.from([1, 2]) };
  const { id, _pid: secret } = client;
  client.io.reconnection(false);
  client.io.engine.transport.ws.terminate?.();
  client.io.engine.close();
  await until(() => ours.publisher.exists(`sio:session:${secret}`), "stored session");
  node.nsp.to("all").emit("missed", 1, { b: Buffer.from([0, 255]) });
  node.nsp.to("elsewhere").emit("elsewhere");
  node.nsp.except("a#b").emit("excluded");
  node.nsp.volatile.emit("volatile");
  await ours.send({ op: "broadcast", name: "ours", ...to(["7"]), ...BINARY });
  await until(async () => (await stored(ours, namespace)).length === 6, "entries");
  const offsets = await stored(ours, namespace);

  const restored = await ours.restore(STREAM, secret, offset);
  assert.equal(restored.do, "restored", restored.reason);
  assert.deepEqual([restored.id, restored.secret], [id, secret]);
  assert.deepEqual(new Set(restored.rooms), new Set([id, "all", "7", "a#b", "x".repeat(20)]));
  assert.deepEqual(argsOf(restored), [{ name: "é", b: Buffer.from([1, 2]) }]);
  const shown = restored.missed.map((event) => [event.name, argsOf(event), event.offset]);
  assert.deepEqual(shown, [
    ["missed", [1, { b: Buffer.from([0, 255]) }], offsets[1]],
    ["volatile", [], offsets[4]],
    ["ours", [{ b: Buffer.from([0, 255]) }], offsets[5]],
  ]);
  assert.equal(restored.until, offsets[5]);
  const again = await ours.restore(STREAM, secret, offset);
  assert.deepEqual(again, { do: "refused", reason: "no stored session for this recovery token" });
});

test("session that we stored is recovered by Node", async (context) => {
  const namespace = "/to-node";
  const { node, ours } = await cluster(context, namespace);
  await ours.send({ op: "broadcast", name: "before", ...to([]), args: "" });
  await ours.settled();
  const [offset] = await stored(ours, namespace);
  const id = "ours0".padEnd(20, "_");
  const session = { op: "store", id, secret: "secret", rooms: [id, "7", "ours"], ...BINARY };
  const [{ key, value }] = await ours.bridge.run(session);
  await ours.publisher.set(key, value, "PX", 60_000);
  await ours.send({ op: "broadcast", name: "missed", ...to(["ours"]), ...BINARY });
  await ours.send({ op: "broadcast", name: "numeric", ...to(["7"]), args: "1" });
  await ours.send({ op: "broadcast", name: "elsewhere", ...to(["elsewhere"]), args: "" });
  await ours.send({ op: "broadcast", name: "excluded", ...to([], ["7"]), args: "" });
  await ours.settled();

  const { client } = node;
  const received = [];
  client.disconnect();
  node.nsp.removeAllListeners("connection");
  const sockets = [];
  node.nsp.on("connection", (socket) => sockets.push(socket));
  Object.assign(client, { _pid: "secret", _lastOffset: offset });
  client.onAny((...args) => received.push(args));
  client.connect();
  await until(() => client.connected && received.length === 2, "missed events");
  assert(client.recovered);
  assert.equal(client.id, id);
  const offsets = await stored(ours, namespace);
  assert.deepEqual(received, [["missed", { b: Buffer.from([0, 255]) }, offsets[1]], ["numeric", 1, offsets[2]]]);
  assert.deepEqual(sockets[0].data, { b: Buffer.from([0, 255]) });
  assert.deepEqual(new Set(sockets[0].rooms), new Set([id, "7", 7, "ours"]));
});

test("invalid claims are refused", async (context) => {
  const { ours } = await cluster(context, "/refused");
  const store = async () => {
    const [{ key, value }] = await ours.bridge.run({ op: "store", id: "s", secret: "p", rooms: [], args: "" });
    await ours.publisher.set(key, value);
  };
  const refused = async (secret, offset) => (await ours.restore(STREAM, secret, offset)).reason;
  assert.equal(await refused("p", "5-"), "offset is not valid");
  assert.equal(await refused("p", "5-0"), "no stored session for this recovery token");
  await store();
  assert.equal(await refused("p", "5-0"), "offset is no longer in the stream");
  const entry = await ours.publisher.xadd(STREAM, "*", "other", "entry");
  await ours.publisher.set("sio:session:p", "not MessagePack");
  assert.equal(await refused("p", entry), "stored session is not readable");
});

test("foreign entries are skipped", async (context) => {
  const { ours } = await cluster(context, "/foreign");
  const add = (...fields) => ours.publisher.xadd(STREAM, "*", ...fields);
  await add("other", "entry");
  await add("nsp", "/elsewhere", "uid", "u", "type", "3", "data", "{");
  await add("nsp", "/foreign", "uid", "u", "type", "2");
  await add("nsp", "/foreign", "uid", "emitter", "type", "4", "data", '{"opts":{"rooms":["7",7],"except":[]},"rooms":["a"]}');
  await until(() => ours.log.length === 1, "operation");
  assert.deepEqual(ours.log, [{ do: "join", rooms: ["7"], except: [], delivery: "Reliable", change: ["a"] }]);
  assert.equal(ours.gaps, 0);
});

test("trimmed and new streams are reported as gaps", async (context) => {
  const ours = new BridgeNode(redis.port, []);
  context.after(() => ours.stop());
  await ours.open("/gaps", ADAPTERS.streams.ours);
  const fields = (name) => ["uid", "u", "nsp", "/gaps", "type", "3", "data", JSON.stringify({ packet: { type: 2, data: [name] }, opts: { rooms: [], except: [] } })];
  const names = () => ours.log.map(({ name }) => name);
  await ours.publisher.xadd(STREAM, "*", ...fields("a"));
  await until(() => ours.log.length === 1, "event");
  assert.equal(ours.gaps, 0);

  // The reader is slower than the writers that trim.
  const { publisher } = ours;
  const resume = ours.pause();
  await publisher.xadd(STREAM, "*", ...fields("b"));
  await until(() => ours.log.length === 2, "event");
  await publisher.xadd(STREAM, "*", ...fields("lost"));
  await publisher.xadd(STREAM, "MAXLEN", 1, "*", ...fields("c"));
  resume();
  await until(() => ours.log.length === 3, "event");
  assert.equal(ours.gaps, 1);

  // The stream is replaced by one with smaller ids.
  await publisher.multi().del(STREAM).xadd(STREAM, "1-1", ...fields("d")).exec();
  await until(() => ours.log.length === 4, "event of the new stream");
  assert.deepEqual(names(), ["a", "b", "c", "d"]);
  assert.equal(ours.gaps, 2);
});
