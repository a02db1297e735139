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
  ["a letter as packet type", "4abc"],
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
  ["unannounced binary", [part]],
  ["text instead of binary", [`451-["message",${hole(0)}]`, '42["message","x"]']],
  ["text instead of the second binary", [`452-["message",${hole(0)},${hole(1)}]`, part, '42["message","x"]']],
  ["a packet of another namespace instead of binary", [`451-["message",${hole(0)}]`, "40/custom,"]],
  ["one more than announced", [`451-["unheard of",${hole(0)}]`, part, part]],
  ["a placeholder beyond the attachments", [`451-["message",${hole(1)}]`, part]],
  ["a negative placeholder", [`451-["message",${hole(-1)}]`, part]],
  ["a placeholder with a string", [`451-["message",${hole('"0"')}]`, part]],
  ["a placeholder without a number", ['451-["message",{"_placeholder":true}]', part]],
  ["no number of attachments", ['45-["message"]']],
  ["no number and no dash", ['45["message"]']],
  ["an invalid number of attachments", ['45a-["message"]']],
  ["a fractional number of attachments", ['451.5-["message"]']],
  ["a negative number of attachments", ['45-1-["message"]']],
  ["more than ten attachments", [`4511-["message",${hole(0)}]`]],
  ["a number of attachments beyond any integer", ['4599999999999999999999-["message"]']],
  ["a payload that is not a list", [`451-{"message":${hole(0)}}`, part]],
  ["an event with a reserved name", [`451-["disconnect",${hole(0)}]`, part]],
  ["an ack that is not a list", ["461-1{}", part]],
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
