import msgpack from "socket.io-msgpack-parser";
import { each, once } from "../script.js";

export const subject = "MessagePack";

const encoder = new msgpack.Encoder();
const bytes = (...list) => Buffer.from(list);

const VALUES = [
  ["no arguments", []],
  ["numbers of every width", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296]],
  ["numbers below zero", [-1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, -2_147_483_649]],
  ["the largest whole numbers", [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]],
  ["fractions", [0.5, -1.25e-7, 1e21, 0.1]],
  ["null, true and false", [null, true, false]],
  ["empty values", ["", [], {}]],
  ["texts of every length", ["x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "x".repeat(65_536)]],
  ["characters of every width", ["aé€👩‍🚀\u2028\u0000"]],
  ["lists and objects", [[1, [2, [3]]], { a: { b: { c: [null] } } }]],
  ["long lists and objects", [Array.from({ length: 17 }, (_, index) => index),
    Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, index]))]],
  ["bytes", [bytes(1, 2, 3)]],
  ["bytes between others, and in an object", ["a", bytes(1), { b: [bytes(2), 3] }]],
  ["no bytes", [bytes()]],
  ["many bytes", [Buffer.alloc(70_000, 3)]],
  ["an object like a placeholder", [{ _placeholder: true, num: 0 }]],
];

const GARBAGE = [
  ["text", '2["echo"]'],
  ["no bytes", bytes()],
  ["an undefined byte", bytes(0xc1)],
  ["a list", encode(["echo"])],
  ["a number", encode(7)],
  ["null", encode(null)],
  ["a truncated packet", encode({ type: 2, data: ["echo"], nsp: "/" }).subarray(0, -3)],
  ["bytes after a packet", Buffer.concat([encode({ type: 2, data: ["echo", 1], nsp: "/" }), bytes(1)])],
  ["a map without a type", encode({ data: ["echo"], nsp: "/" })],
  ["a map without a namespace", encode({ type: 2, data: ["echo", 1] })],
  ["a map without data", encode({ type: 2, nsp: "/" })],
  ["an unknown type", encode({ type: 7, data: ["echo"], nsp: "/" })],
  ["a type of five", encode({ type: 5, data: ["echo"], nsp: "/" })],
  ["a type of text", encode({ type: "2", data: ["echo"], nsp: "/" })],
  ["a namespace that is a number", encode({ type: 2, data: ["echo"], nsp: 1 })],
  ["data that is an object", encode({ type: 2, data: {}, nsp: "/" })],
  ["data that is text", encode({ type: 2, data: "echo", nsp: "/" })],
  ["an empty list", encode({ type: 2, data: [], nsp: "/" })],
  ["a name that is null", encode({ type: 2, data: [null], nsp: "/" })],
  ["a name that is bytes", encode({ type: 2, data: [bytes(1)], nsp: "/" })],
  ["an ack id of text", encode({ type: 2, data: ["echo", 1], nsp: "/", id: "7" })],
  ["a fractional ack id", encode({ type: 2, data: ["echo", 1], nsp: "/", id: 1.5 })],
  ["an answer with an object", encode({ type: 3, data: {}, nsp: "/", id: 1 })],
  ["an answer without a number", encode({ type: 3, data: [1], nsp: "/" })],
  ["a DISCONNECT with data", encode({ type: 1, data: ["bye"], nsp: "/" })],
  ["a CONNECT with a list", encode({ type: 0, data: [], nsp: "/other" })],
  ["a CONNECT with text", encode({ type: 0, data: "x", nsp: "/other" })],
  ["a CONNECT with null", encode({ type: 0, data: null, nsp: "/other" })],
  ["a CONNECT_ERROR", encode({ type: 4, data: { message: "no" }, nsp: "/" })],
  ["additional keys", encode({ type: 2, data: ["echo", 1], nsp: "/", options: { compress: true }, x: 1 })],
  ["an event called disconnect", encode({ type: 2, data: ["disconnect"], nsp: "/" })],
  ["a namespace not joined", encode({ type: 2, data: ["echo", 1], nsp: "/other" })],
];

export const scripts = [
  ...VALUES.map(([what, values]) =>
    each(`an event with ${what}`, async (stage) => {
      const peer = await join(stage, "a");
      await say(peer, { type: 2, data: ["echo", ...values], nsp: "/" });
      await hear(peer);
    }),
  ),
  each("the bytes of server packets", async (stage) => {
    const peer = await join(stage, "a");
    await say(peer, { type: 2, data: ["echo", 1, "two", bytes(3)], nsp: "/" });
    await peer.hear();
    await say(peer, { type: 2, data: ["echo", { a: [] }], nsp: "/", id: 5 });
    await peer.hear();
  }),
  each("an answer to the client", async (stage) => {
    const peer = await join(stage, "a");
    await say(peer, { type: 2, data: ["echo", 1, bytes(2)], nsp: "/", id: 12 });
    await hear(peer);
  }),
  each("an answer of the client", async (stage) => {
    const peer = await join(stage, "a");
    await say(peer, { type: 2, data: ["do", { do: "emit", ack: true }, "question", 1], nsp: "/", id: 3 });
    const asked = await hear(peer);
    await say(peer, { type: 3, data: ["answer", { of: [1] }], nsp: "/", id: asked?.id });
    await hear(peer);
  }),
  once("to all other clients", async (stage) => {
    const [first, second] = [await join(stage, "a"), await join(stage, "b")];
    const data = ["do", { do: "emit", at: "broadcast" }, "news", { of: bytes(1) }];
    await say(first, { type: 2, data, nsp: "/", id: 3 });
    await hear(first);
    await hear(second);
  }),
  each("a namespace beside the main one", async (stage) => {
    const peer = await join(stage, "a");
    await say(peer, { type: 0, nsp: "/other" });
    await hear(peer);
    await say(peer, { type: 2, data: ["echo", 1], nsp: "/other" });
    await hear(peer);
    await say(peer, { type: 1, nsp: "/other" });
    await say(peer, { type: 2, data: ["echo", 2], nsp: "/" });
    await hear(peer);
  }),
  each("a rejection, with and without data", async (stage) => {
    const peer = await join(stage, "a");
    for (const data of [{ token: "wrong" }, { token: "wrong", message: "no", data: { why: [1] } }]) {
      await say(peer, { type: 0, data, nsp: "/guarded" });
      await hear(peer);
    }
    await say(peer, { type: 0, nsp: "/unknown" });
    await hear(peer);
    await say(peer, { type: 0, data: { token: "secret" }, nsp: "/guarded" });
    await hear(peer);
  }),
  each("the server ends it", async (stage) => {
    const peer = await join(stage, "a");
    await say(peer, { type: 2, data: ["do", { do: "disconnect" }], nsp: "/" });
    await hear(peer);
  }),
  ...GARBAGE.map(([what, packet]) =>
    once(`garbage: ${what}`, async (stage) => {
      const peer = await join(stage, "a");
      await peer.put(typeof packet === "string" ? `4${packet}` : packet);
      await peer.put(encode({ type: 2, data: ["echo", "still here"], nsp: "/" }));
      await hear(peer);
    }),
  ),
];

async function join(stage, name) {
  const peer = await stage.engine(name, { path: "/packed/" });
  await say(peer, { type: 0, nsp: "/" });
  await hear(peer);
  return peer;
}

function say(peer, packet) {
  peer.line(`> ${shown(peer, packet)}`);
  return peer.put(encode(packet));
}

/** Next packet, with sorted keys */
async function hear(peer) {
  const heard = await peer.take();
  if (!Buffer.isBuffer(heard)) {
    peer.lineOf(heard);
    return undefined;
  }
  const packet = decode(heard);
  const { sid } = packet.data ?? {};
  if (packet.type === 0 && sid) peer.learn(JSON.stringify({ sid }), `socket id in ${packet.nsp}`);
  peer.line(`< ${shown(peer, packet)}`);
  return packet;
}

function shown(peer, { type, nsp, data, id, ...rest }) {
  const number = id === undefined ? "" : ` id ${id > 20 ? "of the server" : id}`;
  const plain = (_, value) => (value?.type === "Buffer" ? peer.shown(Buffer.from(value.data)) : value);
  const texts = JSON.stringify(data, plain);
  return peer.shown(`${type} ${nsp}${number} ${texts} ${JSON.stringify(rest)}`);
}

function encode(packet) {
  const [encoded] = encoder.encode(packet);
  return Buffer.from(encoded);
}

function decode(encoded) {
  const decoder = new msgpack.Decoder();
  let packet;
  decoder.on("decoded", (decoded) => (packet = decoded));
  decoder.add(encoded);
  return packet;
}
