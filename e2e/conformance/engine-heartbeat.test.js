// Engine.IO v4: the server pings, the client answers in time or its session ends.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "../lib/patience.js";
import { withheld } from "../lib/process.js";
import { byTarget, CALM, QUICK, startConformance } from "../lib/server.js";
import { CARRIERS, PollingSession, probe, PROFILES, upgrade, WebSocketSession } from "../lib/session.js";

const INTERVAL = QUICK["ping-interval"];
const TIMEOUT = QUICK["ping-timeout"];
/** Client clock error added to a deadline, in milliseconds */
const SLACK = 30;
/** In which a client answers that means to stay: not to be missed on a busy machine, in milliseconds */
const TIME_TO_ANSWER = 2000;
/** Early firing of a timer, in milliseconds */
const EARLY = 10;

/** For clients that do not answer */
let server;
/** For clients that do */
let patient;
/** For clients that go before they are asked */
let calm;
before(async () => {
  server = await startConformance({ ...QUICK, "connect-timeout": 45000 });
  patient = await startConformance({ ...QUICK, "ping-timeout": TIME_TO_ANSWER, "connect-timeout": 45000 });
  calm = await startConformance(CALM);
});
after(() => Promise.all([server, patient, calm].map((each) => each.stop())));

/** Fails unless it is as many milliseconds since then as it should be. Time that the machine kept for others is no delay */
const stopwatch = (on = server) => {
  const began = Date.now();
  const before = withheld(on.child.pid);
  return (least, most) => {
    const passed = Date.now() - began;
    const kept = withheld(on.child.pid) - before;
    assert.ok(passed >= least - EARLY && passed - kept <= most, `${passed} ms, of which ${kept.toFixed()} were kept`);
  };
};

for (const profile of PROFILES) {
  describe(`${profile.name} heartbeat`, { concurrency: 4 }, () => {
    test("polling: a GET waits for the ping, which comes once an interval as long as pongs come", async () => {
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

    test("websocket: no ping before the first interval, then one each interval as long as pongs come", async () => {
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

    test("polling: a session without a pong is gone after interval and timeout, though nobody polls", async () => {
      const session = await PollingSession.open(server, profile);
      const lived = stopwatch();
      await sleep(INTERVAL + TIMEOUT + SLACK);
      await server.settled();
      await session.gone();
      lived(INTERVAL + TIMEOUT, INTERVAL + TIMEOUT + 10 * SLACK);
    });

    test("polling: a GET that waits when the pong is overdue is answered, and then the session is gone", async () => {
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

    test("other packets put off the deadline of a pong", async () => {
      const session = await WebSocketSession.open(server, profile);
      const talking = setInterval(() => session.send(profile.say("busy")), 50);
      const lived = stopwatch();
      // Node's server puts it off once for each ping. Here any traffic shows that the client is there.
      const isOnce = byTarget({ node: true, roomcast: false });
      if (!isOnce) {
        await sleep(INTERVAL + 3 * TIMEOUT);
        clearInterval(talking);
      }
      await session.client.untilClosed();
      clearInterval(talking);
      lived(isOnce ? 0 : INTERVAL + 3 * TIMEOUT, INTERVAL + (isOnce ? 3 : 5) * TIMEOUT);
    });

    test("websocket: a close packet does not wait for it", async () => {
      // Node's server leaves this to the heartbeat, as Node's client cuts the connection anyway.
      const session = await WebSocketSession.open(byTarget({ node: server, roomcast: calm }), profile);
      await session.send("1");
      await session.client.untilClosed({ within: PATIENCE });
    });

    test("goes on after an upgrade, over the WebSocket", async () => {
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

    test("goes on under an upgrade that never ends", async () => {
      const session = await PollingSession.open(patient, profile);
      const client = await probe(session);
      assert.equal(await session.next(), "2");
      await session.send("3");
      assert.equal(await session.next(), "2");
      await session.untilClosed();
      client.terminate();
    });

    for (const carrier of CARRIERS) {
      test(`${carrier.name}: a session that answers outlives many timeouts`, async () => {
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
