// Socket.IO v5: events, acknowledgements and attachments that a server has to take.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startConformance } from "../lib/server.js";
import { CARRIERS, PROFILES } from "../lib/session.js";

let server;
before(async () => {
  server = await startConformance();
});
after(() => server.stop());

const profile = PROFILES[1];
const bytes = (...values) => Buffer.from(values);
const hole = (num) => `{"_placeholder":true,"num":${num}}`;

for (const carrier of CARRIERS) {
  const inSession = (body) => async () => {
    const session = await carrier.open(server, profile);
    await body(session);
    await session.leave();
  };

  /** Sends packets and expects exactly these back, with nothing else before what comes next */
  const exchange = async (session, sent, expected) => {
    await session.send(...sent);
    for (const packet of expected) assert.deepEqual(await session.next(), packet);
    await session.send(profile.say("nothing else"));
    assert.equal(await session.next(), profile.heard("nothing else"));
  };

  describe(`${carrier.name}: events`, () => {
    for (const args of [
      "",
      ',"text"',
      ',1,"2",{"3":[true]}',
      ",null,false,0,-1.5,[],{}",
      ',"déjà – てすと – 👩‍🚀 – \\"quoted\\" – \\\\ – \\n"',
      ',{"_placeholder":true,"num":0}',
      ',"a","b","c","d","e","f","g","h","i","j","k","l"',
    ]) {
      test(
        `["message"${args}] comes back with the same arguments`,
        inSession((session) => exchange(session, [`42["message"${args}]`], [`42["message-back"${args}]`])),
      );
    }

    test(
      "the main namespace may be named",
      inSession((session) => exchange(session, ['42/,["message",1]'], ['42["message-back",1]'])),
    );

    test(
      "white space within the payload is nothing",
      inSession((session) => exchange(session, ['42[ "message" , 1 ]'], ['42["message-back",1]'])),
    );

    test(
      "a hundred at once come back in order",
      inSession(async (session) => {
        const numbers = Array.from({ length: 100 }, (_, index) => index);
        await exchange(
          session,
          numbers.map((number) => `42["message",${number}]`),
          numbers.map((number) => `42["message-back",${number}]`),
        );
      }),
    );

    for (const packet of ['42["unheard of",1]', "42[1,2]", "42[0]", '42[""]', '42["message-back",1]']) {
      test(
        `${packet}, which nobody handles, is passed over`,
        inSession((session) => exchange(session, [packet], [])),
      );
    }

    test(
      "nesting has no say in whether a server survives",
      inSession(async (session) => {
        const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
        const other = await carrier.open(server, profile);
        await session.send(`42["unheard of",${deep}]`);
        await other.send(profile.say("alive"));
        assert.equal(await other.next(), profile.heard("alive"));
        await other.leave();
      }),
    );
  });

  describe(`${carrier.name}: acknowledgements`, () => {
    for (const [id, args] of [
      ["456", '1,"2",{"3":[true]}'],
      ["0", ""],
      ["1", "null"],
      ["4294967296", '"beyond 32 bits"'],
    ]) {
      test(
        `with id ${id} answers [${args}]`,
        inSession((session) =>
          exchange(session, [`42${id}["message-with-ack"${args && `,${args}`}]`], [`43${id}[${args}]`]),
        ),
      );
    }

    test(
      "each question gets its own answer, in order",
      inSession(async (session) => {
        const ids = Array.from({ length: 50 }, (_, index) => index);
        await exchange(
          session,
          ids.map((id) => `42${id}["message-with-ack",${id}]`),
          ids.map((id) => `43${id}[${id}]`),
        );
      }),
    );

    test(
      "a question that nobody handles stays unanswered",
      inSession((session) => exchange(session, ['427["unheard of"]', '428["message","x"]'], ['42["message-back","x"]'])),
    );

    for (const packet of ['43999["nobody asked"]', "430[]", '431["x"]']) {
      test(
        `an answer to no question, ${packet}, is passed over`,
        inSession((session) => exchange(session, [packet], [])),
      );
    }

    test(
      "a binary answer to no question is passed over, attachment and all",
      inSession((session) => exchange(session, [`461-999[${hole(0)}]`, bytes(1)], [])),
    );
  });

  describe(`${carrier.name}: questions of the server`, () => {
    /** Makes the server ask and returns the id it asks under */
    const asked = async (session, sent, shape) => {
      await session.send(...sent);
      const [, type, id, payload] = /^4([25](?:\d+-)?)(\d+)(\[.*)$/.exec(await session.next());
      assert.equal(`4${type}${payload}`, shape);
      return id;
    };

    test(
      "are answered once; a second answer is passed over",
      inSession(async (session) => {
        const id = await asked(session, ['42["emit-with-ack",1,"2"]'], '42["emit-with-ack",1,"2"]');
        await exchange(session, [`43${id}["yes",{"no":null}]`], ['42["emit-with-ack","yes",{"no":null}]']);
        await exchange(session, [`43${id}["again"]`], []);
      }),
    );

    test(
      "may be answered late and in another order",
      inSession(async (session) => {
        const first = await asked(session, ['42["emit-with-ack","a"]'], '42["emit-with-ack","a"]');
        const second = await asked(session, ['42["emit-with-ack","b"]'], '42["emit-with-ack","b"]');
        assert.notEqual(first, second);
        await exchange(session, [`43${second}[2]`], ['42["emit-with-ack",2]']);
        await exchange(session, [`43${first}[1]`], ['42["emit-with-ack",1]']);
      }),
    );

    test(
      "may carry attachments, and be answered with some",
      inSession(async (session) => {
        const shape = `451-["emit-with-ack",${hole(0)}]`;
        const id = await asked(session, [shape, bytes(1, 2)], shape);
        assert.deepEqual(await session.next(), bytes(1, 2));
        await exchange(session, [`461-${id}[${hole(0)}]`, bytes(3)], [shape, bytes(3)]);
      }),
    );
  });

  describe(`${carrier.name}: attachments`, () => {
    test(
      "one comes back",
      inSession((session) =>
        exchange(
          session,
          [`451-["message",${hole(0)}]`, bytes(1, 2, 3)],
          [`451-["message-back",${hole(0)}]`, bytes(1, 2, 3)],
        ),
      ),
    );

    test(
      "two come back in their places",
      inSession((session) =>
        exchange(
          session,
          [`452-["message",${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
          [`452-["message-back",${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
        ),
      ),
    );

    test(
      "places that are not in order still get what is theirs, numbered anew",
      inSession((session) =>
        exchange(
          session,
          [`452-["message",${hole(1)},${hole(0)}]`, bytes(1), bytes(2)],
          [`452-["message-back",${hole(0)},${hole(1)}]`, bytes(2), bytes(1)],
        ),
      ),
    );

    test(
      "deep inside objects and lists, in the order of the text",
      inSession((session) => {
        const shape = `{"b":[1,${hole(0)},{"x":${hole(1)}}],"a":${hole(2)}},"end",${hole(3)}`;
        const parts = [bytes(0), bytes(1, 1), Buffer.alloc(0), Buffer.alloc(3000, 3)];
        return exchange(
          session,
          [`454-["message",${shape}]`, ...parts],
          [`454-["message-back",${shape}]`, ...parts],
        );
      }),
    );

    test(
      "as many as ten",
      inSession((session) => {
        const holes = Array.from({ length: 10 }, (_, index) => hole(index)).join(",");
        const parts = Array.from({ length: 10 }, (_, index) => bytes(index));
        return exchange(session, [`4510-["message",${holes}]`, ...parts], [`4510-["message-back",${holes}]`, ...parts]);
      }),
    );

    test(
      "in an acknowledgement",
      inSession((session) =>
        exchange(
          session,
          [`452-789["message-with-ack",${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
          [`462-789[${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
        ),
      ),
    );

    test(
      "may come one by one, with a pong between",
      inSession(async (session) => {
        await session.send(`452-["message",${hole(0)},${hole(1)}]`);
        await session.send("3");
        await session.send(bytes(1));
        await session.send("3", bytes(2), "3");
        await exchange(session, [], [`452-["message-back",${hole(0)},${hole(1)}]`, bytes(1), bytes(2)]);
      }),
    );

    test(
      "two events with attachments in a row keep theirs",
      inSession((session) =>
        exchange(
          session,
          [`451-["message",${hole(0)}]`, bytes(1), '42["message","between"]', `451-["message",${hole(0)}]`, bytes(2)],
          [
            `451-["message-back",${hole(0)}]`,
            bytes(1),
            '42["message-back","between"]',
            `451-["message-back",${hole(0)}]`,
            bytes(2),
          ],
        ),
      ),
    );
  });
}
