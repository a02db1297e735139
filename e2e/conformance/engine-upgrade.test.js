// Engine.IO v4: upgrade from polling to WebSocket, its failures, and message order.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CALM, startConformance } from "../lib/server.js";
import { answers, PollingSession, probe, PROFILES, SEPARATOR, upgrade, WebSocketSession } from "../lib/session.js";
import { turnedAway, WebSocketClient } from "../lib/websocket.js";

/** Upgrade timeout, long enough for a busy machine, in milliseconds */
const UPGRADE_TIMEOUT = 1500;

let server;
let impatient;
before(async () => {
  server = await startConformance();
  impatient = await startConformance({ ...CALM, "upgrade-timeout": UPGRADE_TIMEOUT });
});
after(async () => {
  await server.stop();
  await impatient.stop();
});

for (const profile of PROFILES) {
  const open = (on = server) => PollingSession.open(on, profile);

  describe(`${profile.name} upgrade`, () => {
    test("answers the probe, ends the pending GET with a noop, and continues over the WebSocket", async () => {
      const session = await open();
      const client = await WebSocketClient.open(session.upgradeUrl);
      const parked = session.poll();
      await server.settled();
      client.send("2probe");
      assert.equal(await client.next(), "3probe");
      const { status, body } = await parked;
      assert.deepEqual([status, body], [200, "6"]);
      client.send("5", profile.say("over websocket"));
      assert.equal(await client.next(), profile.heard("over websocket"));
      client.terminate();
    });

    test("ends a GET after the probe with a noop too", async () => {
      const session = await open();
      const client = await probe(session);
      const { status, body } = await session.poll();
      assert.deepEqual([status, body], [200, "6"]);
      client.terminate();
    });

    test("rejects later GETs and POSTs with 400, and the WebSocket still works", async () => {
      const session = await open();
      const client = await upgrade(session);
      client.send(profile.say("settled"));
      assert.equal(await client.next(), profile.heard("settled"));
      for (const late of [await session.poll(), await session.push(profile.say("late"))]) {
        assert.equal(late.status, 400);
        assert.deepEqual(JSON.parse(late.body), { code: 3, message: "Bad request" });
      }
      client.send(profile.say("still here"));
      assert.equal(await client.next(), profile.heard("still here"));
      client.terminate();
    });

    test("closes the session with the WebSocket", async () => {
      const session = await open();
      const client = await upgrade(session);
      client.terminate();
      await server.settled();
      await session.gone();
    });

    test("rejects a second WebSocket, and the first still works", async () => {
      const session = await open();
      const client = await upgrade(session);
      client.send(profile.say("settled"));
      assert.equal(await client.next(), profile.heard("settled"));
      await turnedAway(session.upgradeUrl);
      client.send(profile.say("still here"));
      assert.equal(await client.next(), profile.heard("still here"));
      client.terminate();
    });

    test("rejects a second WebSocket while the first is probing", async () => {
      const session = await open();
      const client = await probe(session);
      await turnedAway(session.upgradeUrl);
      assert.equal((await session.poll()).body, "6");
      client.send("5", profile.say("first"));
      assert.equal(await client.next(), profile.heard("first"));
      client.terminate();
    });

    test("rejects a WebSocket for a session that began as one", async () => {
      const session = await WebSocketSession.open(impatient, profile);
      await turnedAway(`${impatient.url}${profile.path}?EIO=4&transport=websocket&sid=${session.sid}`);
      await answers(session, profile);
      await session.leave();
    });
  });

  describe(`${profile.name} failed upgrade does not affect the polling session`, () => {
    for (const [what, message] of [
      ["a message", profile.say("too early")],
      ["a bare ping", "2"],
      ["another probe text", "2probes"],
      ["a probe in capitals", "2PROBE"],
      ["a pong", "3probe"],
      ["a noop", "6"],
      ["a close packet", "1"],
      ["an unknown packet type", "abc"],
      ["an empty text", ""],
      ["a six-byte text with a truncated character", "2éabc"],
      ["binary", Buffer.from("2probe")],
    ]) {
      test(`after ${what} instead of the probe`, async () => {
        const session = await open();
        const client = await WebSocketClient.open(session.upgradeUrl);
        client.send(message);
        await client.untilClosed();
        assert.deepEqual(client.waiting, []);
        await answers(session, profile);
        await session.leave();
      });
    }

    test("after a message between the probe and its end", async () => {
      const session = await open();
      const client = await probe(session);
      client.send(profile.say("too early"));
      await client.untilClosed();
      await answers(session, profile);
      await session.leave();
    });

    for (const probed of [false, true]) {
      test(`after a WebSocket that is cut ${probed ? "after the probe" : "before it"}`, async () => {
        const session = await open();
        const client = probed ? await probe(session) : await WebSocketClient.open(session.upgradeUrl);
        client.terminate();
        await server.settled();
        await answers(session, profile);
        await session.leave();
      });

      test(`after a client that is silent ${probed ? "after the probe" : "from the start"}`, async () => {
        const session = await open(impatient);
        const opened = Date.now();
        const client = probed ? await probe(session) : await WebSocketClient.open(session.upgradeUrl);
        await client.untilClosed();
        const lived = Date.now() - opened;
        assert.ok(lived >= UPGRADE_TIMEOUT - 50 && lived < 3 * UPGRADE_TIMEOUT, `closed after ${lived} ms`);
        await answers(session, profile);
        await session.leave();
      });
    }

    test("so that the next attempt succeeds", async () => {
      const session = await open();
      const failed = await probe(session);
      failed.send("nonsense");
      await failed.untilClosed();
      await answers(session, profile);
      const client = await upgrade(session);
      client.send(profile.say("second attempt"));
      assert.equal(await client.next(), profile.heard("second attempt"));
      client.terminate();
    });

    test("and a later upgrade outlasts the upgrade timeout", async () => {
      const session = await open(impatient);
      const client = await upgrade(session);
      await sleep(UPGRADE_TIMEOUT + 100);
      client.send(profile.say("still here"));
      assert.equal(await client.next(), profile.heard("still here"));
      client.terminate();
    });
  });

  describe(`${profile.name} upgrade keeps every message in order`, () => {
    const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);
    const said = (from, to) => numbers(from, to).map((number) => profile.say(String(number)));
    const heard = (from, to) => numbers(from, to).map((number) => profile.heard(String(number)));
    const take = async (client, count) => {
      const messages = [];
      while (messages.length < count) messages.push(await client.next());
      return messages;
    };
    const packets = ({ status, body }) => {
      assert.equal(status, 200, body);
      return body.split(SEPARATOR).filter((packet) => packet !== "6" && packet !== "1");
    };

    test("when the answers wait for a GET that is never sent", async () => {
      const session = await open();
      const client = await probe(session);
      await session.send(...said(0, 5));
      await session.send(...said(5, 10));
      client.send("5", ...said(10, 15));
      assert.deepEqual(await take(client, 15), heard(0, 15));
      client.terminate();
    });

    test("when a GET after the probe gets some of them", async () => {
      const session = await open();
      await session.send(...said(0, 5));
      const client = await probe(session);
      const polled = packets(await session.poll());
      await session.send(...said(5, 10));
      client.send("5", ...said(10, 15));
      assert.deepEqual([...polled, ...(await take(client, 15 - polled.length))], heard(0, 15));
      client.terminate();
    });

    test("when the client does not wait for its last GET", async () => {
      const session = await open();
      const client = await WebSocketClient.open(session.upgradeUrl);
      const parked = session.poll();
      await server.settled();
      client.send("2probe");
      assert.equal(await client.next(), "3probe");
      client.send("5", ...said(0, 5));
      const polled = packets(await parked);
      assert.deepEqual([...polled, ...(await take(client, 5 - polled.length))], heard(0, 5));
      client.terminate();
    });

    test("over many upgrades at different positions of the stream", async () => {
      const COUNT = 40;
      for (let cut = 0; cut < COUNT; cut += 3) {
        const session = await open();
        const polled = [];
        const client = await WebSocketClient.open(session.upgradeUrl);
        let probed = false;
        const polling = (async () => {
          // As clients do: poll until the probe is answered, then wait for the pending GET.
          while (!probed) polled.push(...packets(await session.poll()));
        })();
        for (let at = 0; at < cut; at += 2) await session.send(...said(at, Math.min(at + 2, cut)));
        client.send("2probe");
        assert.equal(await client.next(), "3probe");
        probed = true;
        await polling;
        client.send("5", ...said(cut, COUNT));
        const rest = await take(client, COUNT - polled.length);
        assert.deepEqual([...polled, ...rest], heard(0, COUNT), `cut at ${cut}`);
        client.terminate();
      }
    });
  });
}
