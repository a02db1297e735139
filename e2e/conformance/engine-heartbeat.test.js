// Engine.IO v4: the server pings, the client answers in time or its session ends.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { byTarget, QUICK, startConformance } from "../lib/server.js";
import { CARRIERS, PollingSession, probe, PROFILES, upgrade, WebSocketSession } from "../lib/session.js";

const INTERVAL = QUICK["ping-interval"];
const TIMEOUT = QUICK["ping-timeout"];
/** What a client's clock and a busy machine may add to a deadline, in milliseconds */
const SLACK = 30;
/** What a timer may fire early, in milliseconds */
const EARLY = 10;

let server;
before(async () => {
  server = await startConformance({ ...QUICK, "connect-timeout": 45000 });
});
after(() => server.stop());

for (const profile of PROFILES) {
  describe(`${profile.name} heartbeat`, { concurrency: 4 }, () => {
    test("polling: a GET waits for the ping, which comes once an interval as long as pongs come", async () => {
      let since = Date.now();
      const session = await PollingSession.open(server, { ...profile, join: async () => {} });
      for (let round = 0; round < 3; round += 1) {
        const { status, body } = await session.poll();
        const waited = Date.now() - since;
        assert.deepEqual([status, body], [200, "2"]);
        assert.ok(waited >= INTERVAL - EARLY && waited <= INTERVAL + TIMEOUT, `waited ${waited} ms`);
        since = Date.now();
        const pong = await session.push("3");
        assert.deepEqual([pong.status, pong.body], [200, "ok"]);
      }
      await session.leave();
    });

    test("websocket: no ping before the first interval, then one each interval as long as pongs come", async () => {
      let since = Date.now();
      const session = await WebSocketSession.open(server, { ...profile, join: async () => {} });
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await session.next(), "2");
        const waited = Date.now() - since;
        assert.ok(waited >= INTERVAL - EARLY && waited <= INTERVAL + TIMEOUT, `waited ${waited} ms`);
        since = Date.now();
        await session.send("3");
      }
      await session.leave();
    });

    test("polling: a session without a pong is gone after interval and timeout, though nobody polls", async () => {
      const session = await PollingSession.open(server, profile);
      const opened = Date.now();
      await sleep(INTERVAL + TIMEOUT + SLACK);
      await session.gone();
      assert.ok(Date.now() - opened < INTERVAL + TIMEOUT + 10 * SLACK);
    });

    test("polling: a GET that waits when the pong is overdue is answered, and then the session is gone", async () => {
      const began = Date.now();
      const session = await PollingSession.open(server, profile);
      assert.equal((await session.poll()).body, "2");
      const { status } = await session.poll();
      const lived = Date.now() - began;
      assert.ok(status === 200 || status === 400, String(status));
      assert.ok(lived >= INTERVAL + TIMEOUT - EARLY && lived <= INTERVAL + 2 * TIMEOUT, `lived ${lived} ms`);
      await session.gone();
    });

    test("websocket: closes after interval and timeout without a pong", async () => {
      const began = Date.now();
      const session = await WebSocketSession.open(server, profile);
      assert.equal(await session.next(), "2");
      await session.untilClosed();
      const lived = Date.now() - began;
      assert.ok(lived >= INTERVAL + TIMEOUT - EARLY && lived <= INTERVAL + 2 * TIMEOUT, `lived ${lived} ms`);
    });

    test("other packets do not stand for a pong", async () => {
      const session = await WebSocketSession.open(server, profile);
      const talking = setInterval(() => session.send(profile.say("busy")), 50);
      const opened = Date.now();
      await session.client.untilClosed();
      clearInterval(talking);
      const lived = Date.now() - opened;
      assert.ok(lived <= INTERVAL + 2 * TIMEOUT, `lived ${lived} ms`);
    });

    test("websocket: a close packet does not wait for it", async () => {
      const session = await WebSocketSession.open(server, profile);
      await session.send("1");
      // Node's server leaves this to the heartbeat, as Node's client cuts the connection anyway.
      await session.client.untilClosed({ within: byTarget({ node: 2 * (INTERVAL + TIMEOUT), roomcast: INTERVAL - 50 }) });
    });

    test("goes on after an upgrade, over the WebSocket", async () => {
      const session = await WebSocketSession.upgraded(server, profile);
      for (let round = 0; round < 2; round += 1) {
        assert.equal(await session.next(), "2");
        await session.send("3");
      }
      assert.equal(await session.next(), "2");
      await session.untilClosed();
    });

    test("a ping before the upgrade may be answered after it", async () => {
      const session = await PollingSession.open(server, profile);
      assert.equal((await session.poll()).body, "2");
      const client = await upgrade(session);
      client.send("3");
      assert.equal(await client.next(), "2");
      client.terminate();
    });

    test("goes on under an upgrade that never ends", async () => {
      const session = await PollingSession.open(server, profile);
      const client = await probe(session);
      assert.equal(await session.next(), "2");
      await session.send("3");
      assert.equal(await session.next(), "2");
      await session.untilClosed();
      client.terminate();
    });

    for (const carrier of CARRIERS) {
      test(`${carrier.name}: a session that answers outlives many timeouts`, async () => {
        const session = await carrier.open(server, profile);
        const until = Date.now() + 4 * (INTERVAL + TIMEOUT);
        while (Date.now() < until) {
          assert.equal(await session.next(), "2");
          await session.send("3");
        }
        await session.send(profile.say("alive"));
        assert.equal(await session.next(), profile.heard("alive"));
        await session.leave();
      });
    }
  });
}
