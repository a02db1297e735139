// Operations between a server of Node and a node of Roomcast, the same for each adapter.
import assert from "node:assert/strict";
import { argsOf } from "../lib/node_bridge.js";
import { until } from "../lib/node_cluster.js";

/** Arguments in each form, as Node has them and as the bridge has them */
export const FORMS = {
  text: { args: [1, "é", { two: [null] }], ours: { args: '1,"é",{"two":[null]}' } },
  binary: {
    args: [{ b: Buffer.from([0, 255]) }, "é"],
    ours: { args: '{"b":{"_placeholder":true,"num":0}},"é"', attachments: ["00ff"] },
  },
};

/** Milliseconds; Node keeps a timer for as long, which delays the end of the process */
const ACK_TIMEOUT = 5_000;

export const FROM_NODE = "from Node";
export const TO_NODE = "to Node";

/** The sockets of the node of Roomcast; their acknowledgements have the form of the case */
export const SOCKETS = [
  { id: "ours0".padEnd(20, "_"), rooms: ["ours0".padEnd(20, "_"), "all", "7", "a#b"], data: { n: 1 }, handshake: { issued: 1 } },
  { id: "ours1", rooms: ["ours1", "all"], data: {}, handshake: {} },
];
const [FIRST] = SOCKETS;

const target = { rooms: [], except: [], delivery: "Reliable" };
const to = (rooms, except = []) => ({ rooms, except });

/** Emits on Node; returns the operations that reach us, of which there must be `count` */
async function received({ node, ours }, count, act) {
  ours.log.length = 0;
  await act(node.nsp);
  await until(() => ours.log.length >= count, "operation");
  node.nsp.emit("marker");
  await until(() => ours.log.some(({ name }) => name === "marker"), "marker");
  return ours.log.filter(({ name }) => name !== "marker");
}

/** Publishes; returns the events that reach the client of Node */
async function delivered({ node, ours }, act) {
  const events = [];
  const listener = (...args) => events.push(args);
  node.client.onAny(listener);
  await act((name, target, more = { args: "" }) => ours.send({ op: "broadcast", name, ...target, ...more }));
  await ours.send({ op: "broadcast", name: "end", ...to([]), args: "" });
  await until(() => events.some(([name]) => name === "end"), "end");
  node.client.offAny(listener);
  return events.slice(0, -1);
}

const shown = ({ name, rooms, except, delivery, compress }) => ({ name, rooms, except, delivery, compress });

export const CASES = [];
function operation(name, forms, directions) {
  for (const form of forms) {
    for (const [direction, run] of Object.entries(directions)) CASES.push({ name, form, direction, run: (test) => run(test, FORMS[form]) });
  }
}
const BOTH = ["text", "binary"];

operation("broadcast to all", BOTH, {
  [FROM_NODE]: async (test, { args }) => {
    const [event, ...others] = await received(test, 1, (nsp) => nsp.emit("e", ...args));
    assert.deepEqual([shown(event), argsOf(event), others], [{ ...target, name: "e", compress: true }, args, []]);
  },
  [TO_NODE]: async (test, { args, ours }) => {
    assert.deepEqual(await delivered(test, (emit) => emit("e", to([]), ours)), [["e", ...args]]);
  },
});

operation("broadcast to one room", BOTH, {
  [FROM_NODE]: async (test, { args }) => {
    const rooms = ["all", "a#b", FIRST.id, "ours1"];
    const events = await received(test, rooms.length + 2, (nsp) => {
      for (const room of [...rooms, 7, "7"]) nsp.to(room).emit("e", ...args);
      nsp.local.emit("e");
    });
    assert.deepEqual(events.map(shown), [...rooms, "7", "7"].map((room) => ({ ...target, name: "e", rooms: [room], compress: true })));
    for (const event of events) assert.deepEqual(argsOf(event), args);
  },
  [TO_NODE]: async (test, { args, ours }) => {
    const rooms = ["all", "7", "a#b", "x".repeat(20), test.node.client.id];
    const events = await delivered(test, async (emit) => {
      for (const room of rooms) await emit(room, to([room]), ours);
      await emit("elsewhere", to(["elsewhere"]), ours);
    });
    assert.deepEqual(events, rooms.map((room) => [room, ...args]));
  },
});

operation("broadcast to several rooms, with exclusions and flags", BOTH, {
  [FROM_NODE]: async (test, { args }) => {
    const [event, ...others] = await received(test, 1, (nsp) =>
      nsp.to("all").to(7).except(["a#b", 8]).volatile.compress(false).emit("e", ...args));
    const expected = { name: "e", rooms: ["all", "7"], except: ["a#b", "8"], delivery: "Volatile", compress: false };
    assert.deepEqual([shown(event), argsOf(event), others], [expected, args, []]);
  },
  [TO_NODE]: async (test, { args, ours }) => {
    const flags = { volatile: true, compress: false, key: "k" };
    const events = await delivered(test, async (emit) => {
      await emit("several", to(["7", "elsewhere"], ["nobody"]), { ...ours, flags });
      for (const room of ["all", "7", test.node.client.id]) await emit("excluded", to([], [room]), ours);
    });
    assert.deepEqual(events, [["several", ...args]]);
  },
});

operation("join", ["text"], {
  [FROM_NODE]: async (test) => {
    const changes = await received(test, 1, (nsp) => nsp.to(7).except("b").socketsJoin(["c", 8]));
    assert.deepEqual(changes, [{ ...target, do: "join", rooms: ["7"], except: ["b"], change: ["c", "8"] }]);
  },
  [TO_NODE]: async ({ node, ours }) => {
    const { rooms } = node.nsp.sockets.get(node.client.id);
    await ours.send({ op: "join", ...to(["7"], ["nobody"]), change: ["new", "9"] });
    await until(() => rooms.has("9") && rooms.has("new"), "join");
  },
});

operation("leave", ["text"], {
  [FROM_NODE]: async (test) => {
    const changes = await received(test, 1, (nsp) => nsp.to("ours1").socketsLeave("all"));
    assert.deepEqual(changes, [{ ...target, do: "leave", rooms: ["ours1"], change: ["all"] }]);
  },
  [TO_NODE]: async ({ node, ours }) => {
    const socket = node.nsp.sockets.get(node.client.id);
    socket.join(["gone", 12]);
    await ours.send({ op: "leave", ...to(["gone"]), change: ["gone", "12"] });
    await until(() => !socket.rooms.has(12), "leave");
    assert(!socket.rooms.has("gone"));
  },
});

operation("disconnect", ["text"], {
  [FROM_NODE]: async (test) => {
    const changes = await received(test, 1, (nsp) => nsp.to("ours1").disconnectSockets(true));
    assert.deepEqual(changes, [{ ...target, do: "disconnect", rooms: ["ours1"], close: true }]);
  },
  [TO_NODE]: async ({ node, ours }) => {
    const id = node.client.id;
    await ours.send({ op: "disconnect", ...to([id]), close: false });
    await until(() => !node.client.connected, "disconnect");
    node.client.connect();
    await until(() => node.nsp.sockets.get(node.client.id)?.rooms.has("all"), "connect");
    assert.notEqual(node.client.id, id);
  },
});

operation("fetch", BOTH, {
  // Data is JSON on our side, and bytes have the form that a Buffer has in JSON.
  [FROM_NODE]: async ({ node, ours, form }) => {
    const data = form === "binary" ? JSON.parse(JSON.stringify({ b: Buffer.from([1]) })) : { n: 1 };
    ours.sockets[0].data = data;
    const remote = (await node.nsp.fetchSockets()).filter(({ id }) => id !== node.client.id);
    assert.deepEqual(
      remote.map(({ id, data, rooms, handshake }) => ({ id, data, rooms: [...rooms], handshake })),
      ours.sockets.map(({ id, data, rooms, handshake }) => ({ id, data, rooms, handshake })),
    );
    assert.deepEqual(await node.nsp.to("nobody").fetchSockets(), []);
  },
  [TO_NODE]: async ({ node, ours, form }) => {
    const data = form === "binary" ? { b: Buffer.from([1, 2]) } : { name: "é" };
    node.nsp.sockets.get(node.client.id).data = data;
    const { answers, missing } = await ours.request({ op: "fetch", ...to(["7"]) });
    assert.deepEqual([answers.length, missing], [1, 0]);
    const [found] = answers[0];
    assert.equal(found.id, node.client.id);
    for (const room of ["all", "7", "a#b", "x".repeat(20)]) assert(found.rooms.includes(room), room);
    assert.deepEqual(JSON.parse(found.data), JSON.parse(JSON.stringify(data)));
    assert.equal(JSON.parse(found.handshake).address, "127.0.0.1");
    for (const [rooms, except, count] of [[[], [], 1], [["nobody"], [], 0], [[], ["7"], 0]]) {
      assert.deepEqual(await ours.request({ op: "count", ...to(rooms, except) }), { answers: [{ count }], missing: 0 });
    }
  },
});

operation("broadcast with acknowledgements", BOTH, {
  [FROM_NODE]: async ({ node, ours }, form) => {
    for (const socket of ours.sockets) socket.answer = form.ours;
    node.client.once("question", (...args) => args.pop()("from node"));
    const [first] = form.args;
    const answers = await node.nsp.timeout(ACK_TIMEOUT).emitWithAck("question", ...form.args);
    assert.deepEqual(answers.filter((answer) => answer !== "from node"), [first, first]);
    assert.equal(answers.length, 3);
    assert.deepEqual(argsOf(ours.log.findLast(({ name }) => name === "question")), form.args);
    assert.deepEqual(await node.nsp.to("ours1").timeout(ACK_TIMEOUT).emitWithAck("question"), [first]);
    assert.deepEqual(await node.nsp.to("nobody").timeout(1000).emitWithAck("question"), []);
  },
  [TO_NODE]: async ({ node, ours }, form) => {
    node.client.once("question", (...args) => args.pop()(args[0], "dropped"));
    const collected = await ours.request({ op: "collect", name: "question", ...to(["7"]), ...form.ours });
    const answers = collected.answers.map((answer) => (answer.args === undefined ? answer : argsOf(answer)));
    // The acknowledgement of a client may overtake the count of its server.
    assert.deepEqual(new Set(answers), new Set([{ recipients: 1 }, [form.args[0]]]));
    assert.equal(collected.missing, 0);
    const none = await ours.request({ op: "collect", name: "question", ...to(["nobody"]), ...form.ours });
    assert.deepEqual(none, { answers: [{ recipients: 0 }], missing: 0 });
  },
});

/** The classic adapter has JSON for servers, so bytes have the form of a Buffer in JSON */
const forServers = (test, args) => (test.adapter === "classic" ? JSON.parse(JSON.stringify(args)) : args);

operation("event for servers", BOTH, {
  [FROM_NODE]: async (test, { args }) => {
    const events = await received(test, 1, (nsp) => nsp.serverSideEmit("hello", ...args));
    assert.deepEqual(events.map((event) => [event.name, argsOf(event)]), [["hello", forServers(test, args)]]);
  },
  [TO_NODE]: async (test, form) => {
    const told = [];
    test.node.nsp.once("told", (...args) => told.push(args));
    await test.ours.send({ op: "emit", name: "told", ...form.ours });
    await until(() => told.length > 0, "event for servers");
    assert.deepEqual(told, [forServers(test, form.args)]);
  },
});

operation("event for servers, with acknowledgements", BOTH, {
  [FROM_NODE]: async (test, form) => {
    test.ours.serverAnswer = form.ours;
    const answers = await test.node.nsp.serverSideEmitWithAck("question", ...form.args);
    assert.deepEqual(answers, forServers(test, [form.args[0]]));
    assert.deepEqual(argsOf(test.ours.log.findLast(({ name }) => name === "question")), forServers(test, form.args));
  },
  [TO_NODE]: async (test, form) => {
    test.node.nsp.once("asked", (...args) => args.pop()(args[0], "dropped"));
    const { answers, missing } = await test.ours.request({ op: "ask", name: "asked", ...form.ours });
    assert.deepEqual([answers.map(argsOf), missing], [[forServers(test, [form.args[0]])], 0]);
  },
});
