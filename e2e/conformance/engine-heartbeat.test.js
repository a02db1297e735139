// Engine.IO v4: pings, pongs and their deadlines.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "../lib/patience.js";
import { withheld } from "../lib/process.js";
import { byTarget, CALM, QUICK, startConformance } from "../lib/server.js";
import { CARRIERS, PollingSession, probe, PROFILES, upgrade, WebSocketSession } from "../lib/session.js";

const INTERVAL = QUICK["ping-interval"];
const TIMEOUT = QUICK["ping-timeout"];
/** Tolerance of a deadline for the client's clock, in milliseconds */
const SLACK = 30;
/** Ping timeout of clients that answer, long enough for a busy machine, in milliseconds */
const TIME_TO_ANSWER = 2000;
/** Tolerance for timers that fire early, in milliseconds */
const EARLY = 10;

/** Timings for clients that do not answer */
let server;
/** Timings for clients that answer */
let patient;
/** Timings for clients that leave before the first ping */
let calm;
before(async () => {
  server = await startConformance({ ...QUICK, "connect-timeout": 45000 });
  patient = await startConformance({ ...QUICK, "ping-timeout": TIME_TO_ANSWER, "connect-timeout": 45000 });
  calm = await startConformance(CALM);
});
after(() => Promise.all([server, patient, calm].map((each) => each.stop())));

/** Checks the milliseconds since a start time. Time that the machine withheld is no delay */
const stopwatch = (on = server) => {
  const began = Date.now();
  const before = withheld(on.child.pid);
  return (least, most) => {
    const passed = Date.now() - began;
    const kept = withheld(on.child.pid) - before;
    assert.ok(passed >= least - EARLY && passed - kept <= most, `${passed} ms, of which ${kept.toFixed()} were withheld`);
  };
};

for (const profile of PROFILES) {
  describe(`${profile.name} heartbeat`, { concurrency: 4 }, () => {
    test("polling: a pending GET gets a ping each interval while pongs arrive", async () => {
      let waited = stopwatch(patient);
      const session = await PollingSession.open(patient, { ...profile, join: async () => {} });
      for (let round = 0; round < 3; round += 1) {
        const { status, body } = await session.poll();
        waited(INTERVAL, INTERVAL + TIMEOUT);
        assert.deepEqual([status, body], [200, "2"]);
        waited = stopwatch(patient);
        const pong = await session.push("3");
        assert.deepEqual([pong.status, pong.body], [200, "ok"]);
      }
      await session.leave();
    });

    test("websocket: a ping each interval, from the first interval on", async () => {
      let waited = stopwatch(patient);
      const session = await WebSocketSession.open(patient, { ...profile, join: async () => {} });
      for (let round = 0; round < 3; round += 1) {
        assert.equal(await session.next(), "2");
        waited(INTERVAL, INTERVAL + TIMEOUT);
        waited = stopwatch(patient);
        await session.send("3");
      }
      await session.leave();
    });

    test("polling: a session without a pong ends after interval and timeout, without a poll too", async () => {
      const session = await PollingSession.open(server, profile);
      const lived = stopwatch();
      await sleep(INTERVAL + TIMEOUT + SLACK);
      await server.settled();
      await session.gone();
      lived(INTERVAL + TIMEOUT, INTERVAL + TIMEOUT + 10 * SLACK);
    });

    test("polling: a missing pong answers the pending GET and ends the session", async () => {
      const lived = stopwatch();
      const session = await PollingSession.open(server, profile);
      assert.equal((await session.poll()).body, "2");
      const { status } = await session.poll();
      lived(INTERVAL + TIMEOUT, INTERVAL + 2 * TIMEOUT);
      assert.ok(status === 200 || status === 400, String(status));
      await session.gone();
    });

    test("websocket: closes after interval and timeout without a pong", async () => {
      const lived = stopwatch();
      const session = await WebSocketSession.open(server, profile);
      assert.equal(await session.next(), "2");
      await session.untilClosed();
      lived(INTERVAL + TIMEOUT, INTERVAL + 2 * TIMEOUT);
    });

    test("other packets extend the pong deadline", async () => {
      const session = await WebSocketSession.open(server, profile);
      const talking = setInterval(() => session.send(profile.say("busy")), 50);
      const lived = stopwatch();
      // Node's server extends it once per ping. Here any traffic proves that the client is alive.
      const isOnce = byTarget({ node: true, roomcast: false });
      if (!isOnce) {
        await sleep(INTERVAL + 3 * TIMEOUT);
        clearInterval(talking);
      }
      await session.client.untilClosed();
      clearInterval(talking);
      lived(isOnce ? 0 : INTERVAL + 3 * TIMEOUT, INTERVAL + (isOnce ? 3 : 5) * TIMEOUT);
    });

    test("websocket: a close packet does not wait for the pong", async () => {
      // Node's server waits for the heartbeat, since Node's client cuts the connection anyway.
      const session = await WebSocketSession.open(byTarget({ node: server, roomcast: calm }), profile);
      await session.send("1");
      await session.client.untilClosed({ within: PATIENCE });
    });

    test("continues over the WebSocket after an upgrade", async () => {
      const session = await WebSocketSession.upgraded(patient, profile);
      for (let round = 0; round < 2; round += 1) {
        assert.equal(await session.next(), "2");
        await session.send("3");
      }
      assert.equal(await session.next(), "2");
      await session.untilClosed();
    });

    test("a ping before the upgrade may be answered after it", async () => {
      const session = await PollingSession.open(patient, profile);
      assert.equal((await session.poll()).body, "2");
      const client = await upgrade(session);
      client.send("3");
      assert.equal(await client.next(), "2");
      client.terminate();
    });

    test("continues during an upgrade that never completes", async () => {
      const session = await PollingSession.open(patient, profile);
      const client = await probe(session);
      assert.equal(await session.next(), "2");
      await session.send("3");
      assert.equal(await session.next(), "2");
      await session.untilClosed();
      client.terminate();
    });

    for (const carrier of CARRIERS) {
      test(`${carrier.name}: a session that answers outlasts many timeouts`, async () => {
        const session = await carrier.open(patient, profile);
        const until = Date.now() + 3 * (INTERVAL + TIME_TO_ANSWER);
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
