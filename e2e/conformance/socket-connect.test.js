// Socket.IO v5: joining and leaving namespaces.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { byTarget, CALM, startConformance, target } from "../lib/server.js";
import { CARRIERS, PollingSession, PROFILES, WebSocketSession } from "../lib/session.js";

/** Connect timeout, long enough for a busy machine, in milliseconds */
const CONNECT_TIMEOUT = 1500;
/** Ping interval, long enough for the work before the first ping */
const PING_INTERVAL = 1500;

let server;
let impatient;
let quick;
before(async () => {
  server = await startConformance();
  impatient = await startConformance({ ...CALM, "connect-timeout": CONNECT_TIMEOUT });
  quick = await startConformance({ ...CALM, "ping-interval": PING_INTERVAL });
});
after(() => Promise.all([server, impatient, quick].map((each) => each.stop())));

/** Socket.IO sessions that have joined no namespace yet */
const profile = { ...PROFILES[1], join: async () => {} };
const echo = PROFILES[1];

/** Node handles a DISCONNECT a tick late: a CONNECT right after it would find the namespace still joined */
const settleOnNode = () => (target === "node" ? sleep(30) : undefined);

for (const carrier of CARRIERS) {
  const open = (on = server) => carrier.open(on, profile);

  /** Sends a CONNECT and expects its response, then the `auth` event. Returns the socket id */
  const enter = async (session, packet, prefix, auth = {}) => {
    await session.send(packet);
    const answer = await session.next();
    assert.ok(answer.startsWith(`40${prefix}{`), answer);
    const { sid, ...others } = JSON.parse(answer.slice(2 + prefix.length));
    assert.deepEqual(others, {});
    assert.match(sid, /^[A-Za-z0-9_-]{20}$/);
    const event = await session.next();
    assert.ok(event.startsWith(`42${prefix}[`), event);
    assert.deepEqual(JSON.parse(event.slice(2 + prefix.length)), ["auth", auth]);
    return sid;
  };

  /** Expects the next packet to be the echo of a message event on `/` */
  const speaks = async (session) => {
    await session.send('42["message","still here"]');
    assert.equal(await session.next(), '42["message-back","still here"]');
  };

  describe(`${carrier.name}: CONNECT`, () => {
    const auth = { token: "123", nested: { list: [1, null, "é"] } };
    for (const [what, packet, prefix, expected] of [
      ["to the main namespace", "40", "", {}],
      ["to the main namespace with a payload", `40${JSON.stringify(auth)}`, "", auth],
      ["to the main namespace by name", "40/,", "", {}],
      ["to another namespace", "40/custom,", "/custom,", {}],
      ["to another namespace without the comma", "40/custom", "/custom,", {}],
      ["to another namespace with a payload", `40/custom,${JSON.stringify(auth)}`, "/custom,", auth],
    ]) {
      test(`${what} is answered only with a socket id`, async () => {
        const session = await open();
        await enter(session, packet, prefix, expected);
        await session.leave();
      });
    }

    test("gives every namespace its own id, different from the session's", async () => {
      const session = await open();
      const ids = [await enter(session, "40", ""), await enter(session, "40/custom,", "/custom,"), session.sid];
      assert.equal(new Set(ids).size, 3);
      await session.leave();
    });

    for (const name of ["/random", "/Custom", "/custom/", "/custom2"]) {
      test(`to the unknown ${name} is rejected, and the session stays open`, async () => {
        const session = await open();
        await session.send(`40${name},`);
        assert.equal(await session.next(), `44${name},{"message":"Invalid namespace"}`);
        await enter(session, "40", "");
        await speaks(session);
        await session.leave();
      });
    }

    test("to an unknown namespace with a payload is rejected too", async () => {
      const session = await open();
      await session.send('40/random,{"token":"123"}');
      assert.equal(await session.next(), '44/random,{"message":"Invalid namespace"}');
      await session.leave();
    });

    test("to a second namespace does not affect the first", async () => {
      const session = await open();
      await enter(session, "40", "");
      await enter(session, "40/custom,", "/custom,");
      await speaks(session);
      await session.leave();
    });

    test("twice to the same namespace closes the connection", async () => {
      for (const [packet, prefix] of [["40", ""], ["40/custom,", "/custom,"]]) {
        const session = await open();
        await enter(session, packet, prefix);
        await session.send(packet);
        await session.untilClosed();
      }
    });

    for (const [what, packet] of [
      ["an array", "40[]"],
      ["a string", '40"token"'],
      ["a number", "40-5"],
      ["broken JSON", '40{"token":'],
      ["a namespace without its slash", "40custom,"],
    ]) {
      test(`with ${what} as payload closes the connection`, async () => {
        const session = await open();
        await session.send(packet);
        await session.untilClosed();
      });
    }
  });

  describe(`${carrier.name}: without CONNECT`, () => {
    test("closes the connection after the connect timeout", async () => {
      const began = Date.now();
      const session = await open(impatient);
      await session.untilClosed();
      const lived = Date.now() - began;
      assert.ok(lived >= CONNECT_TIMEOUT - 10 && lived < 3 * CONNECT_TIMEOUT, `closed after ${lived} ms`);
    });

    test("a rejected CONNECT does not count", async () => {
      const session = await open(impatient);
      await session.send("40/random,");
      assert.equal(await session.next(), '44/random,{"message":"Invalid namespace"}');
      await session.untilClosed();
    });

    test("a CONNECT to any namespace stops the timeout", async () => {
      const plays = [["40", ""], ["40/custom,", "/custom,"]].map(async ([packet, prefix]) => {
        const session = await open(impatient);
        await enter(session, packet, prefix);
        await sleep(CONNECT_TIMEOUT + 150);
        await enter(session, prefix ? "40" : "40/custom,", prefix ? "" : "/custom,");
        await session.leave();
      });
      await Promise.all(plays);
    });

    for (const packet of ['42["message","early"]', '43["early"]', "431[]", "41", '42/custom,["message"]', "41/custom,"]) {
      test(`${packet} closes the connection`, async () => {
        const session = await open();
        await session.send(packet);
        await session.untilClosed();
      });
    }
  });

  describe(`${carrier.name}: DISCONNECT`, () => {
    test("of the only namespace keeps the session, which gets its ping", async () => {
      const session = await open(quick);
      await enter(session, "40", "");
      await session.send("41");
      assert.equal(await session.next(), "2");
      await session.leave();
    });

    for (const packet of ["41/custom,", "41/custom"]) {
      test(`${packet} does not affect the main namespace`, async () => {
        const session = await open();
        await enter(session, "40", "");
        await enter(session, "40/custom,", "/custom,");
        await session.send(packet);
        await speaks(session);
        await session.leave();
      });
    }

    test("of the main namespace keeps the other, and both can be joined again", async () => {
      const session = await open();
      const first = await enter(session, "40", "");
      await enter(session, "40/custom,", "/custom,");
      await session.send("41");
      await settleOnNode();
      const again = await enter(session, "40", "", {});
      assert.notEqual(again, first);
      await session.send("41/custom,");
      await settleOnNode();
      await enter(session, "40/custom,", "/custom,");
      await speaks(session);
      await session.leave();
    });

    test("of a namespace already left closes the connection", async () => {
      const session = await open();
      await enter(session, "40", "");
      await enter(session, "40/custom,", "/custom,");
      await session.send("41/custom,");
      await speaks(session);
      await session.send("41/custom,");
      await session.untilClosed();
    });
  });

  describe(`${carrier.name}: a namespace not joined`, () => {
    for (const packet of ['42/custom,["message"]', "43/custom,1[]", "41/custom,", '42/random,["message"]']) {
      test(`${packet} closes the whole connection`, async () => {
        const session = await open();
        await enter(session, "40", "");
        await session.send(packet);
        await session.untilClosed();
      });
    }

    for (const packet of ['44{"message":"no"}', '44/custom,{"message":"no"}']) {
      test(`CONNECT_ERROR from a client, ${packet}, closes the whole connection`, async () => {
        const session = await open();
        await enter(session, "40", "");
        await session.send(packet);
        await session.untilClosed();
      });
    }
  });

  describe(`${carrier.name}: packets after a pending CONNECT`, () => {
    const skip = target === "node" && carrier.name !== "polling" && "on Node the outcome hangs on how the frames arrive";

    test("an event waits for the answer", { skip }, async () => {
      const session = await open();
      await session.send("40", '42["message","early"]');
      if (byTarget({ node: true, roomcast: false })) {
        // Node creates its socket later, and treats the event as one of a namespace not joined.
        await session.untilClosed();
        return;
      }
      assert.match(await session.next(), /^40\{"sid":/);
      assert.equal(await session.next(), '42["auth",{}]');
      assert.equal(await session.next(), '42["message-back","early"]');
      await session.leave();
    });

    test("a binary event with attachments waits for the answer", { skip }, async () => {
      const session = await open();
      await session.send("40", '451-["message",{"_placeholder":true,"num":0}]', Buffer.from([1, 2, 3]));
      if (byTarget({ node: true, roomcast: false })) {
        await session.untilClosed();
        return;
      }
      assert.match(await session.next(), /^40\{"sid":/);
      assert.equal(await session.next(), '42["auth",{}]');
      assert.equal(await session.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
      assert.deepEqual(await session.next(), Buffer.from([1, 2, 3]));
      await session.leave();
    });

    test("a second CONNECT to the same namespace creates no second socket", { skip }, async () => {
      const session = await open();
      await session.send("40", "40");
      if (byTarget({ node: true, roomcast: false })) {
        // Node creates two sockets.
        const packets = [];
        while (packets.length < 4) packets.push(await session.next());
        assert.equal(packets.filter((packet) => packet.startsWith("40{")).length, 2);
        await session.leave();
        return;
      }
      // The second closes the connection; how much of the first is sent before depends on timing.
      const packets = [];
      for (let packet = ""; packet !== "1"; packets.push(packet)) packet = await session.next().catch(() => "1");
      assert.ok(packets.filter((packet) => packet.startsWith("40{")).length <= 1, packets.join());
      assert.deepEqual(packets.filter((packet) => !/^(40\{.*|42\["auth",\{\}\]|1)$/.test(packet)), []);
      await session.untilClosed();
    });

    test("CONNECTs to two namespaces are both answered", async () => {
      const session = await open();
      await session.send("40", "40/custom,");
      const answers = [];
      while (answers.length < 4) answers.push((await session.next()).replace(/"sid":"[^"]+"/, "sid"));
      assert.deepEqual(answers.sort(), ["40/custom,{sid}", "40{sid}", '42/custom,["auth",{}]', '42["auth",{}]']);
      await session.leave();
    });
  });
}

describe("Socket.IO: one bad client", () => {
  test("does not affect another", async () => {
    const [good, bad] = [await WebSocketSession.open(server, echo), await PollingSession.open(server, echo)];
    await bad.send("4nonsense");
    await bad.untilClosed();
    await good.send(echo.say("untouched"));
    assert.equal(await good.next(), echo.heard("untouched"));
    await good.leave();
  });
});
