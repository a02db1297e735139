// Engine.IO v4: size limits of client messages, in bytes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CALM, startConformance } from "../lib/server.js";
import { answers, PollingSession, PROFILES, SEPARATOR, WebSocketSession } from "../lib/session.js";
import { WebSocketClient } from "../lib/websocket.js";

const LIMIT = 100;

let server;
let roomy;
before(async () => {
  server = await startConformance({ ...CALM, "max-payload": LIMIT });
  roomy = await startConformance({ ...CALM, "max-payload": 1_000_000 });
});
after(async () => {
  await server.stop();
  await roomy.stop();
});

const profile = PROFILES[0];
const euros = (bytes) => `4${"x".repeat((bytes - 1) % 3)}${"€".repeat((bytes - 1) / 3)}`;

// Node cuts the connection of an oversized body, so no other request may be pending on it.
const ALONE = { agent: false };

describe("limits: polling", () => {
  const open = (on = server) => PollingSession.open(on, profile);
  const AT_LIMIT = [
    ["one packet", `4${"x".repeat(LIMIT - 1)}`],
    ["three packets with their separators", [`4${"x".repeat(47)}`, `4${"y".repeat(47)}`, "4z"].join(SEPARATOR)],
    ["characters of three bytes", euros(LIMIT)],
  ];

  for (const [what, payload] of AT_LIMIT) {
    test(`${what}: accepts exactly the limit`, async () => {
      assert.equal(Buffer.byteLength(payload), LIMIT);
      const session = await open();
      const { status, body } = await session.push(payload);
      assert.deepEqual([status, body], [200, "ok"]);
      assert.equal((await session.poll()).body, payload);
      await session.leave();
    });

    test(`${what}: one byte more gets an empty 413, and closes the session`, async () => {
      const session = await open();
      const { status, body } = await session.push(`${payload}!`, ALONE);
      assert.deepEqual([status, body], [413, ""]);
      await session.gone();
    });
  }

  test("counts a chunked body as it arrives", async () => {
    const session = await open();
    const push = session.beginPush();
    push.write(`4${"x".repeat(60)}`);
    push.write("x".repeat(60));
    const { status, body } = await push.response;
    assert.deepEqual([status, body], [413, ""]);
    push.abort();
  });

  test("does not trust a declared length", async () => {
    const session = await open();
    const push = session.beginPush({ headers: { "content-length": 1e12 } });
    push.write("4x".repeat(200));
    const { status } = await push.response;
    assert.equal(status, 413);
    push.abort();
  });

  test("accepts exactly the default of a million bytes", async () => {
    const session = await open(roomy);
    const payload = `4${"m".repeat(999_999)}`;
    await session.send(payload);
    assert.equal(await session.next(), payload);
    const { status, body } = await session.push(`${payload}m`, ALONE);
    assert.deepEqual([status, body], [413, ""]);
    await session.gone();
  });

  test("counts binary as base64", async () => {
    const session = await open();
    const most = Buffer.alloc(72, 7);
    await session.send(most);
    assert.deepEqual(await session.next(), most);
    assert.equal((await session.push(`b${Buffer.alloc(75, 7).toString("base64")}`, ALONE)).status, 413);
    await session.gone();
  });
});

describe("limits: websocket", () => {
  const open = (on = server) => WebSocketSession.open(on, profile);

  for (const message of [`4${"x".repeat(LIMIT - 1)}`, euros(LIMIT), Buffer.alloc(LIMIT, 7)]) {
    const what = typeof message === "string" ? `text of ${message.length} characters` : "binary";
    test(`${what}: accepts exactly the limit`, async () => {
      const session = await open();
      await session.send(message);
      assert.deepEqual(await session.next(), message);
      await session.leave();
    });
  }

  for (const message of [`4${"x".repeat(LIMIT)}`, euros(LIMIT + 3), Buffer.alloc(LIMIT + 1, 7)]) {
    const what = typeof message === "string" ? `text of ${message.length} characters` : "binary";
    test(`${what}: more closes with 1009 without a reason`, async () => {
      const session = await open();
      await session.send(message);
      assert.deepEqual(await session.client.untilClosed(), { code: 1009, reason: "" });
    });
  }

  test("counts fragments together", async () => {
    const session = await open();
    session.client.socket.send("4".padEnd(60, "x"), { fin: false });
    session.client.socket.send("x".repeat(60), { fin: true });
    assert.equal((await session.client.untilClosed()).code, 1009);
  });

  test("rejects a declared length at once", async () => {
    const session = await open();
    // A text frame header that declares 2^40 bytes, without payload.
    session.client.socket._socket.write(Buffer.from([0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
    assert.equal((await session.client.untilClosed()).code, 1009);
  });

  test("apply to a probing WebSocket, and the polling session stays open", async () => {
    const session = await PollingSession.open(server, profile);
    const client = await WebSocketClient.open(session.upgradeUrl);
    client.send("2".padEnd(LIMIT + 1, "x"));
    await client.untilClosed();
    await answers(session, profile);
    await session.leave();
  });

  test("accepts the default of a million bytes", async () => {
    const session = await open(roomy);
    const message = `4${"m".repeat(999_999)}`;
    await session.send(message);
    assert.equal(await session.next(), message);
    await session.leave();
  });
});
