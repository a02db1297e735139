// socket.io-client, versions 4 and 3, on the conformance application: namespaces, binary, acks and reconnects.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { io as io3 } from "sio3";
import { io as io4 } from "socket.io-client";
import { until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { CALM, startConformance } from "../lib/server.js";
import { inTime } from "../lib/websocket.js";

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

/** A client that answers no ping is closed after two seconds; a slow one has most of that time to answer */
const QUICK = { "ping-interval": 300, "ping-timeout": 1700 };
const LONGER = 2500;

let server;
let quick;
before(async () => {
  server = await startConformance();
  quick = await startConformance({ ...CALM, ...QUICK });
});
after(() => Promise.all([server.stop(), quick.stop()]));

for (const [version, io] of [["4", io4], ["3", io3]]) {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    describe(`socket.io-client ${version}, ${mode}`, () => {
      const connect = async (namespace = "/", options = {}, on = server) => {
        const socket = io(`${on.url}${namespace}`, { transports, forceNew: true, reconnection: false, ...options });
        const refused = once(socket, "connect_error").then(([error]) => Promise.reject(error));
        await inTime(Promise.race([once(socket, "connect"), refused]), PATIENCE, "no connect");
        if (mode === "upgrade") await until(() => socket.io.engine.transport.name === "websocket", "no upgrade");
        return socket;
      };
      const ask = (socket, event, ...args) =>
        inTime(new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer))), PATIENCE, "no answer");
      const hear = (socket, event) => inTime(once(socket, event), PATIENCE, `no ${event}`);

      test("joins both namespaces over one connection, with auth", async () => {
        const main = io(server.url, { transports, forceNew: true, auth: { token: "123" } });
        const custom = main.io.socket("/custom", { auth: { token: "456" } });
        const greetings = await Promise.all([hear(main, "auth"), hear(custom, "auth")]);
        assert.deepEqual(greetings, [[{ token: "123" }], [{ token: "456" }]]);
        assert.notEqual(main.id, custom.id);
        assert.notEqual(main.id, main.io.engine.id);
        custom.disconnect();
        assert.deepEqual(await ask(main, "message-with-ack", 1), [1]);
        main.disconnect();
      });

      test("is rejected by an unknown namespace", async () => {
        await assert.rejects(connect("/random"), { message: "Invalid namespace" });
      });

      test("echoes arguments in an event and an ack", async () => {
        const socket = await connect();
        const args = [1, "déjà 👩‍🚀", { nested: [true, null, { deep: [] }] }, [], ""];
        const back = hear(socket, "message-back");
        socket.emit("message", ...args);
        assert.deepEqual(await back, args);
        assert.deepEqual(await ask(socket, "message-with-ack", ...args), args);
        socket.disconnect();
      });

      test("echoes binary in an event and an ack", async () => {
        const socket = await connect();
        const args = [Buffer.from([1, 2, 3]), { list: ["text", Buffer.alloc(0), Buffer.alloc(70_000, 7)] }];
        const back = hear(socket, "message-back");
        socket.emit("message", ...args);
        assert.deepEqual(await back, args);
        assert.deepEqual(await ask(socket, "message-with-ack", ...args), args);
        socket.disconnect();
      });

      test("keeps the order of hundreds of events, binary too", async () => {
        const socket = await connect();
        const sent = Array.from({ length: 300 }, (_, index) => (index % 5 ? index : Buffer.from([index % 256])));
        const received = [];
        socket.on("message-back", (value) => received.push(value));
        for (const value of sent) socket.emit("message", value);
        await until(() => received.length === sent.length, "not all came back");
        assert.deepEqual(received, sent);
        socket.disconnect();
      });

      test("loses no events sent while connecting and upgrading", async () => {
        for (let round = 0; round < 10; round += 1) {
          const socket = io(server.url, { transports, forceNew: true });
          const received = [];
          socket.on("message-back", (value) => received.push(value));
          for (let number = 0; number < 40; number += 1) {
            socket.emit("message", number);
            if (number % 8 === round % 8) await new Promise((resolve) => setTimeout(resolve, round));
          }
          await until(() => received.length >= 40, `round ${round}: not all came back`);
          assert.deepEqual(received, Array.from({ length: 40 }, (_, number) => number));
          socket.disconnect();
        }
      });

      test("stays connected over many heartbeats", async () => {
        const socket = await connect("/", {}, quick);
        let lost;
        socket.once("disconnect", (reason) => (lost = reason));
        await new Promise((resolve) => setTimeout(resolve, LONGER));
        assert.equal(lost, undefined);
        assert.deepEqual(await ask(socket, "message-with-ack", "alive"), ["alive"]);
        socket.disconnect();
      });

      test("reconnects after its connection is cut", async () => {
        const socket = await connect("/", { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
        const { id } = socket;
        const lost = hear(socket, "disconnect");
        const back = hear(socket, "connect");
        socket.io.engine.close();
        assert.equal((await lost)[0], "forced close");
        await back;
        assert.notEqual(socket.id, id);
        assert.deepEqual(await ask(socket, "message-with-ack", "back"), ["back"]);
        socket.disconnect();
      });

      test("sees a server shutdown as a lost connection, so that it reconnects", async () => {
        const ending = await startConformance();
        const socket = await connect("/", {}, ending);
        const lost = hear(socket, "disconnect");
        await ending.stop();
        const [reason] = await lost;
        assert.ok(["transport close", "transport error"].includes(reason), reason);
      });
    });
  }
}
