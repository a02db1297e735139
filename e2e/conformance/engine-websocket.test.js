// Engine.IO v4 over WebSocket, and the plain WebSocket echo: input, output and close.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "../lib/patience.js";
import { startConformance } from "../lib/server.js";
import { answers, PROFILES, WebSocketSession } from "../lib/session.js";
import { inTime, WebSocketClient } from "../lib/websocket.js";

let server;
before(async () => {
  server = await startConformance();
});
after(() => server.stop());

const open = () => WebSocketSession.open(server, PROFILES[0]);

describe("websocket: messages", () => {
  const ECHOES = [
    ["a text", "4hello"],
    ["an empty text", "4"],
    ["text in many scripts", "4déjà vu – てすと – Я Б Г – 👩‍🚀 – \u2028\x1e"],
    ["binary", Buffer.from([1, 2, 3, 4])],
    ["binary that reads like a packet", Buffer.from("1")],
    ["empty binary", Buffer.alloc(0)],
    ["text of 126 bytes", `4${"x".repeat(125)}`],
    ["text of 64 KiB", `4${"é".repeat(32768)}`],
    ["binary of 700 KiB", Buffer.alloc(700 * 1024, "roomcast")],
  ];
  for (const [what, message] of ECHOES) {
    test(`echoes ${what} unchanged`, async () => {
      const session = await open();
      await session.send(message);
      assert.deepEqual(await session.next(), message);
      await session.leave();
    });
  }

  test("keeps the order of texts and binaries", async () => {
    const session = await open();
    const said = Array.from({ length: 500 }, (_, index) => (index % 3 ? `4${index}` : Buffer.from(`${index}`)));
    await session.send(...said);
    for (const message of said) assert.deepEqual(await session.next(), message);
    await session.leave();
  });

  test("accepts a fragmented message", async () => {
    const session = await open();
    const { socket } = session.client;
    socket.send("4frag", { fin: false });
    socket.send("men", { fin: false });
    socket.send("ted", { fin: true });
    assert.equal(await session.next(), "4fragmented");
    await session.leave();
  });

  test("ignores a stray pong, upgrade or noop", async () => {
    const session = await open();
    await session.send("3", "5", "6");
    await answers(session, PROFILES[0]);
    await session.leave();
  });

  test("answers a WebSocket ping", async () => {
    const session = await open();
    const { socket } = session.client;
    const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
    socket.ping("are you there");
    assert.equal(await inTime(pong, PATIENCE, "no pong"), "are you there");
    await answers(session, PROFILES[0]);
    await session.leave();
  });
});

describe("websocket: closes on", () => {
  for (const [what, message] of [
    ["an unknown packet type", "abc"],
    ["an unknown digit as packet type", "9"],
    ["an empty text", ""],
    ["a ping, which only servers send", "2"],
  ]) {
    test(what, async () => {
      const session = await open();
      await session.send(message);
      await session.untilClosed();
    });
  }

  test("the client's close handshake, which the server completes", async () => {
    const session = await open();
    const { code } = await session.client.close(1000, "bye");
    assert.equal(code, 1000);
  });
});

describe("plain WebSocket echo", () => {
  const connect = (options) => WebSocketClient.open(`${server.url}/echo`, options);

  test("returns texts and binaries, with no packet type", async () => {
    const client = await connect();
    for (const message of ["hello", "", "4hello", "déjà 👩‍🚀", Buffer.from([0, 255]), Buffer.alloc(0)]) {
      client.send(message);
      assert.deepEqual(await client.next(), message);
    }
    await client.close(1000);
  });

  test("sends nothing on its own", async () => {
    const client = await connect();
    await sleep(100);
    client.send("first");
    assert.equal(await client.next(), "first");
    assert.deepEqual(client.waiting, []);
    client.terminate();
  });

  test("echoes the close code", async () => {
    for (const code of [1000, 1001, 3000, 4999]) {
      const client = await connect();
      assert.equal((await client.close(code)).code, code);
    }
  });

  const BROKEN = [
    ["an unmasked frame", [0x81, 0x02, 0x68, 0x69], 1002],
    ["a reserved opcode", [0x83, 0x80, 0, 0, 0, 0], 1002],
    ["a reserved bit", [0xc1, 0x80, 0, 0, 0, 0], 1002],
    ["text that is not UTF-8", [0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007],
    ["a ping in fragments", [0x09, 0x80, 0, 0, 0, 0], 1002],
    ["a continuation without a first frame", [0x80, 0x80, 0, 0, 0, 0], 1002],
    ["a close code that must not be sent", [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 1002],
  ];
  for (const [what, bytes, code] of BROKEN) {
    test(`${what} closes with ${code}`, async () => {
      const client = await connect();
      client.socket._socket.write(Buffer.from(bytes));
      assert.equal((await client.untilClosed()).code, code);
    });
  }
});
