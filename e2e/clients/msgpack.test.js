// socket.io-client 4 with socket.io-msgpack-parser, on a separate path, in the same rooms as all other clients.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import msgpack from "socket.io-msgpack-parser";
import { until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { startExample, target } from "../lib/server.js";
import { inTime, WebSocketClient } from "../lib/websocket.js";

const skip = target === "node" && "an application of our own";
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

let server;
before(async () => {
  if (!skip) server = await startExample("recovery_server", { threads: 2 });
});
after(() => server?.stop());

async function connect(namespace, options) {
  const socket = io(`${server.url}${namespace}`, { forceNew: true, reconnection: false, ...options });
  const refused = once(socket, "connect_error").then(([error]) => Promise.reject(error));
  await inTime(Promise.race([once(socket, "connect"), refused]), PATIENCE, "no connect");
  return socket;
}

const ask = (socket, event, ...args) =>
  inTime(new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer))), PATIENCE, "no answer");

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  describe(`socket.io-client 4 with socket.io-msgpack-parser, ${mode}`, { skip }, () => {
    const options = { transports, path: "/msgpack/", parser: msgpack };

    test("echoes values as JSON does", async () => {
      const socket = await connect("/", options);
      const plain = [0, -1, 127, 128, 65_536, -40_000, 2 ** 40, -(2 ** 40), 1.5, "déjà 👩‍🚀", "x".repeat(300), null, true];
      assert.deepEqual(await ask(socket, "echo", ...plain), plain);
      const wide = Array.from({ length: 70_000 }, (_, index) => index % 200);
      const nested = { list: [[], {}, [[1]]], wide, keys: Object.fromEntries(wide.slice(0, 40).map((key) => [`k${key}`, key])) };
      assert.deepEqual(await ask(socket, "echo", nested), [nested]);
      const odd = [undefined, { gone: undefined, kept: 1 }, new Date(1_700_000_000_123), NaN];
      assert.deepEqual(await ask(socket, "echo", ...odd), [null, { kept: 1 }, "2023-11-14T22:13:20.123Z", null]);
      socket.disconnect();
    });

    test("echoes binary", async () => {
      const socket = await connect("/", options);
      const args = [Buffer.from([1, 2, 3]), { list: ["text", Buffer.alloc(0), Buffer.alloc(70_000, 7)] }];
      assert.deepEqual(await ask(socket, "echo", ...args), args);
      assert.deepEqual(await ask(socket, "echo", new Uint8Array([4, 5]).buffer), [Buffer.from([4, 5])]);
      socket.disconnect();
    });

    test("answers events with acks", async () => {
      const socket = await connect("/", options);
      socket.on("question", (...args) => args.pop()(args.length, ...args));
      assert.deepEqual(await ask(socket, "ask", "a", Buffer.from([1])), [2, "a", Buffer.from([1])]);
      socket.disconnect();
    });

    test("keeps its order", async () => {
      const socket = await connect("/", options);
      const heard = [];
      socket.on("heard", (value) => heard.push(value));
      await ask(socket, "join", `order ${mode}`);
      const sent = Array.from({ length: 300 }, (_, index) => (index % 5 ? index : Buffer.from([index % 256])));
      for (const value of sent) socket.emit("say", `order ${mode}`, value);
      await until(() => heard.length === sent.length, "not all came back");
      assert.deepEqual(heard, sent);
      socket.disconnect();
    });

    test("is rejected with the application's message", async () => {
      await assert.rejects(connect("/random", options), { message: "Invalid namespace" });
      const refused = connect("/", { ...options, auth: { refuse: true } });
      await assert.rejects(refused, { message: "refused", data: { asked: true } });
    });

    test("shares rooms with other clients", async () => {
      const room = `mixed ${mode}`;
      const packed = await connect("/", options);
      const text = await connect("/", { transports });
      const plain = await WebSocketClient.open(`ws://127.0.0.1:${server.port}/ws`, { protocols: ["roomcast.json"] });
      await plain.next();
      const heard = { packed: [], text: [] };
      packed.on("heard", (...args) => heard.packed.push(args.slice(0, -1)));
      text.on("heard", (...args) => heard.text.push(args.slice(0, -1)));
      await Promise.all([packed, text].map((socket) => ask(socket, "join", room)));
      plain.send(JSON.stringify([{ ack: 1 }, "join", room]));
      assert.equal(await plain.next(), '[{"re":1},true]');
      const args = ["text", { deep: [1.5, null] }, Buffer.from([9])];
      for (const [index, speaker] of [packed, text].entries()) {
        speaker.emit("say", room, ...args);
        await until(() => Object.values(heard).every((list) => list.length === index + 1), "not received by all");
        assert.deepEqual([heard.packed[index], heard.text[index]], [args, args]);
        const [header, ...said] = JSON.parse(await plain.next());
        assert.equal(header.binary, 1);
        assert.deepEqual(said, ["heard", "text", { deep: [1.5, null] }, { _placeholder: true, num: 0 }]);
        assert.deepEqual(await plain.next(), Buffer.from([9]));
      }
      plain.send(JSON.stringify(["say", room, "from plain", [1]]));
      await until(() => Object.values(heard).every((list) => list.length === 3), "not received by all");
      assert.deepEqual([heard.packed[2], heard.text[2]], [["from plain", [1]], ["from plain", [1]]]);
      [packed, text].forEach((socket) => socket.disconnect());
      plain.terminate();
    });

    test("is closed for packets of another parser", async () => {
      const socket = io(server.url, { forceNew: true, reconnection: false, transports, path: "/msgpack/" });
      socket.io.once("close", () => {});
      await inTime(once(socket.io, "close"), PATIENCE, "no close");
      assert.equal(socket.connected, false);
    });
  });
}
