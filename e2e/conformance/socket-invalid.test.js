// Socket.IO v5: invalid packets. Each closes the whole connection, with no other response.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startConformance, target } from "../lib/server.js";
import { CARRIERS, PollingSession, PROFILES } from "../lib/session.js";

let server;
before(async () => {
  server = await startConformance();
});
after(() => server.stop());

const profile = PROFILES[1];
const part = Buffer.from([1, 2, 3]);
const hole = (num) => `{"_placeholder":true,"num":${num}}`;

const INVALID_PACKETS = [
  ["no packet type", "4"],
  ["a letter for a packet type", "4abc"],
  ["an unknown packet type", "47[]"],
  ["an event with an object", "42{}"],
  ["an event with a string", '42"message"'],
  ["an event with an empty list", "42[]"],
  ["an event with garbage before the list", '42abc["message"]'],
  ["an event with garbage after the list", '42["message"]abc'],
  ["an event with broken JSON", '42["message"'],
  ["an event named by an object", "42[{}]"],
  ["an event named by a list", "42[[]]"],
  ["an event named by null", "42[null]"],
  ["an event named by true", "42[true]"],
  ["an event with a negative id", '42-1["message"]'],
  ["an ack with an object", "431{}"],
  ["an ack with a string", '431"x"'],
  ["a DISCONNECT with a payload", '41["bye"]'],
  ["a CONNECT_ERROR without a payload", "44"],
  ["a namespace in the wrong place", '42["message"]/custom,'],
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) => [
    `an event with the reserved name ${name}`,
    `42["${name}"]`,
  ]),
];

const INVALID_ATTACHMENTS = [
  ["binary that no packet announced", [part]],
  ["text while one is awaited", [`451-["message",${hole(0)}]`, '42["message","x"]']],
  ["text while the second is awaited", [`452-["message",${hole(0)},${hole(1)}]`, part, '42["message","x"]']],
  ["another namespace's packet while one is awaited", [`451-["message",${hole(0)}]`, "40/custom,"]],
  ["one more than announced", [`451-["unheard of",${hole(0)}]`, part, part]],
  ["a place beyond what came", [`451-["message",${hole(1)}]`, part]],
  ["a place below zero", [`451-["message",${hole(-1)}]`, part]],
  ["a place that is a string", [`451-["message",${hole('"0"')}]`, part]],
  ["a place that is missing", ['451-["message",{"_placeholder":true}]', part]],
  ["no number of attachments", ['45-["message"]']],
  ["no number and no dash", ['45["message"]']],
  ["a number of attachments that is none", ['45a-["message"]']],
  ["half an attachment", ['451.5-["message"]']],
  ["a negative number of attachments", ['45-1-["message"]']],
  ["more than ten attachments", [`4511-["message",${hole(0)}]`]],
  ["a number of attachments beyond any integer", ['4599999999999999999999-["message"]']],
  ["a payload that is no list", [`451-{"message":${hole(0)}}`, part]],
  ["an event with a reserved name", [`451-["disconnect",${hole(0)}]`, part]],
  ["an ack that is no list", ["461-1{}", part]],
];

describe("polling: packets before the close", () => {
  test("are sent with the next GET", async () => {
    const session = await PollingSession.open(server, profile);
    await session.send(profile.say("before"));
    await server.settled();
    await session.send("4nonsense");
    assert.equal(await session.next(), profile.heard("before"));
    await session.untilClosed();
  });

  test("answer the pending GET with a close", async () => {
    const session = await PollingSession.open(server, profile);
    const parked = session.poll();
    await server.settled();
    await session.send("4nonsense");
    const { status, body } = await parked;
    assert.deepEqual([status, body], [200, "1"]);
    await session.gone();
  });
});

for (const carrier of CARRIERS) {
  describe(`${carrier.name}: closes on`, () => {
    for (const [what, packet] of INVALID_PACKETS) {
      test(what, async () => {
        const session = await carrier.open(server, profile);
        await session.send(packet);
        await session.untilClosed();
      });
    }
  });

  describe(`${carrier.name}: closes on, or ignores,`, () => {
    for (const packet of ["42", "43", "431"]) {
      test(`${packet}, without a payload`, async () => {
        const session = await carrier.open(server, profile);
        await session.send(packet);
        // Node's parser accepts an absent payload, but rejects every wrong one.
        await session.send(profile.say("still here")).catch(() => {});
        const answer = await session.next().catch(() => "1");
        assert.ok(["1", profile.heard("still here")].includes(answer), answer);
        await session.leave();
      });
    }
  });

  describe(`${carrier.name}: closes on attachments with`, () => {
    for (const [what, packets] of INVALID_ATTACHMENTS) {
      test(what, async () => {
        const session = await carrier.open(server, profile);
        await session.send(...packets);
        await session.untilClosed();
      });
    }

    test("a placeholder number that is not an integer", async () => {
      const session = await carrier.open(server, profile);
      await session.send(`451-["message",${hole(0.5)}]`, part);
      // Node passes undefined to the application.
      if (target === "node") assert.equal(await session.next(), '42["message-back",null]');
      else await session.untilClosed();
      await session.leave();
    });

    test("a count of zero, or ignores it", async () => {
      const session = await carrier.open(server, profile);
      await session.send('450-["message","x"]');
      // Parsers differ here, but must not treat the connection as broken later.
      const answer = await session.next().catch(() => "1");
      if (answer !== "1") {
        assert.equal(answer, '42["message-back","x"]');
        await session.send(profile.say("still here"));
        assert.equal(await session.next(), profile.heard("still here"));
      }
      await session.leave();
    });
  });
}
