// Engine.IO v4 over HTTP long polling: GETs, POSTs, and the end of the session.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync, inflateSync } from "node:zlib";
import { startConformance } from "../lib/server.js";
import { answers, PollingSession, PROFILES, SEPARATOR } from "../lib/session.js";

let server;
before(async () => {
  server = await startConformance();
});
after(() => server.stop());

/** A session that echoes packets */
const open = () => PollingSession.open(server, PROFILES[0]);

describe("polling: messages", () => {
  const ECHOES = [
    ["one text", "4hello"],
    ["an empty text", "4"],
    ["three texts", ["4one", "4two", "4three"].join(SEPARATOR)],
    ["text and binary", `4hello${SEPARATOR}bAQIDBA==`],
    ["binary only", "bAAEC/f7/"],
    ["empty binary", "b"],
    ["text in many scripts", "4déjà vu – てすと – Я Б Г – 👩‍🚀 – \u2028"],
    ["text that looks like packets", "42[\"b\"]\n0{}\\u001e"],
  ];
  for (const [what, payload] of ECHOES) {
    test(`echoes ${what} in one body, unchanged`, async () => {
      const session = await open();
      const pushed = await session.push(payload);
      assert.deepEqual([pushed.status, pushed.body], [200, "ok"]);
      assert.match(pushed.headers["content-type"], /^text\/html/);
      const polled = await session.poll();
      assert.deepEqual([polled.status, polled.body], [200, payload]);
      assert.equal(polled.headers["content-type"].toLowerCase(), "text/plain; charset=utf-8");
      assert.equal(polled.headers["cache-control"], "no-store");
      await session.leave();
    });
  }

  for (const type of ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", undefined]) {
    test(`a body of type ${type ?? "undeclared"} is text`, async () => {
      const session = await open();
      const pushed = await session.push("4hé", { headers: type && { "content-type": type } });
      assert.deepEqual([pushed.status, pushed.body], [200, "ok"]);
      assert.equal((await session.poll()).body, "4hé");
      await session.leave();
    });
  }

  test("a body may arrive in pieces, split within a character", async () => {
    const session = await open();
    const bytes = Buffer.from("4déjà");
    const push = session.beginPush();
    for (const byte of bytes) {
      push.write(Buffer.of(byte));
      await sleep(2);
    }
    push.end();
    assert.equal((await push.response).body, "ok");
    assert.equal((await session.poll()).body, "4déjà");
    await session.leave();
  });

  test("a GET waits for a packet", async () => {
    const session = await open();
    let answered = false;
    const parked = session.poll().finally(() => (answered = true));
    await sleep(150);
    assert.equal(answered, false);
    await session.send("4now");
    assert.equal((await parked).body, "4now");
    await session.leave();
  });

  test("the next GET gets packets in order", async () => {
    const session = await open();
    const said = Array.from({ length: 20 }, (_, index) => `4${index}`);
    for (const packet of said) await session.send(packet);
    const { body } = await session.poll();
    assert.deepEqual(body.split(SEPARATOR), said);
    await session.leave();
  });

  test("many rounds lose and reorder no packets", async () => {
    const session = await open();
    const said = Array.from({ length: 300 }, (_, index) => `4${index}`);
    const talking = (async () => {
      for (let at = 0; at < said.length; at += 7) await session.send(...said.slice(at, at + 7));
    })();
    for (const packet of said) assert.equal(await session.next(), packet);
    await talking;
    await session.leave();
  });

  test("ignores a stray pong", async () => {
    const session = await open();
    await session.send("3", "4after");
    assert.equal(await session.next(), "4after");
    await session.leave();
  });

  test("a long body is compressed only for a client that accepts it", async () => {
    const session = await open();
    const long = `4${"compressible ".repeat(400)}`;
    await session.send(long);
    const plain = await session.poll();
    assert.equal(plain.headers["content-encoding"], undefined);
    assert.equal(plain.body, long);
    await session.send(long);
    const { headers, bytes } = await session.poll({ headers: { "accept-encoding": "gzip, deflate" } });
    const decode = { gzip: gunzipSync, deflate: inflateSync }[headers["content-encoding"]] ?? ((same) => same);
    assert.equal(decode(bytes).toString(), long);
    await session.leave();
  });

  test("sessions are isolated", async () => {
    const [one, two] = [await open(), await open()];
    await one.send("4one");
    await two.send("4two");
    assert.equal((await one.poll()).body, "4one");
    assert.equal((await two.poll()).body, "4two");
    await one.leave();
    await two.leave();
  });
});

describe("polling: ends the session on", () => {
  test("a second GET: the first gets a close packet, the second 400", async () => {
    const session = await open();
    const first = session.poll();
    await server.settled();
    const second = await session.poll();
    assert.deepEqual([second.status, second.body], [400, ""]);
    const { status, body } = await first;
    assert.deepEqual([status, body], [200, "1"]);
    await session.gone();
  });

  test("a second POST while one is pending gets 400", async () => {
    const session = await open();
    const first = session.beginPush();
    first.write("4unfin");
    await server.settled();
    const second = await session.push("4hello");
    assert.deepEqual([second.status, second.body], [400, ""]);
    first.abort();
    await session.gone();
  });

  test("a GET that the client aborts", async () => {
    const session = await open();
    const parked = session.beginPoll();
    await server.settled();
    parked.abort();
    await server.settled();
    await session.gone();
  });

  test("a POST that the client aborts", async () => {
    const session = await open();
    const push = session.beginPush({ headers: { "content-length": 100 } });
    push.write("4unfinished");
    await server.settled();
    push.abort();
    await server.settled();
    await session.gone();
  });

  test("a close packet: the pending GET gets a noop", async () => {
    const session = await open();
    const parked = session.poll();
    await server.settled();
    const pushed = await session.push("1");
    assert.deepEqual([pushed.status, pushed.body], [200, "ok"]);
    const { status, body } = await parked;
    assert.deepEqual([status, body], [200, "6"]);
    await session.gone();
  });

  test("a close packet without a pending GET", async () => {
    const session = await open();
    assert.equal((await session.push("1")).body, "ok");
    await session.gone();
  });

  test("a close packet; ignores later packets of the payload", async () => {
    const session = await open();
    const parked = session.poll();
    await server.settled();
    assert.equal((await session.push(`1${SEPARATOR}4late`)).body, "ok");
    assert.equal((await parked).body, "6");
    await session.gone();
  });

  const BAD_PAYLOADS = [
    ["an unknown packet type", "abc"],
    ["an unknown digit as packet type", "7"],
    ["an empty body", ""],
    ["an empty packet", `4a${SEPARATOR}${SEPARATOR}4b`],
    ["a separator at the end", `4a${SEPARATOR}`],
    ["a ping, which only servers send", "2"],
    ["a probe on the same connection", "2probe"],
  ];
  for (const [what, payload] of BAD_PAYLOADS) {
    test(`${what} in a POST`, async () => {
      const session = await open();
      const { status, body } = await session.push(payload);
      // The session ends; the response to the request may differ.
      assert.ok((status === 200 && body === "ok") || status === 400, `${status} ${body}`);
      await session.untilClosed();
      await session.gone();
    });
  }

  test("a POST of application/octet-stream gets 400", async () => {
    const session = await open();
    const { status, body } = await session.push("4hello", { headers: { "content-type": "application/octet-stream" } });
    assert.deepEqual([status, body], [400, ""]);
    await session.gone();
  });
});

describe("polling: keeps the session on", () => {
  for (const method of ["PUT", "DELETE", "PATCH"]) {
    test(`${method}, rejected without a body`, async () => {
      const session = await open();
      const { status, body } = await session.poll({ method });
      assert.ok(status >= 400, String(status));
      assert.equal(body, "");
      await answers(session, PROFILES[0]);
      await session.leave();
    });
  }

  test("another session that ends", async () => {
    const [one, two] = [await open(), await open()];
    await one.push("abc");
    await answers(two, PROFILES[0]);
    await two.leave();
  });
});
