// Socket.IO v5: events, acknowledgements and attachments.
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

  /** Sends packets and expects exactly these responses */
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
        `echoes ["message"${args}] unchanged`,
        inSession((session) => exchange(session, [`42["message"${args}]`], [`42["message-back"${args}]`])),
      );
    }

    test(
      "accepts the name of the main namespace",
      inSession((session) => exchange(session, ['42/,["message",1]'], ['42["message-back",1]'])),
    );

    test(
      "ignores white space in the payload",
      inSession((session) => exchange(session, ['42[ "message" , 1 ]'], ['42["message-back",1]'])),
    );

    test(
      "echoes a hundred at once in order",
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
        `ignores ${packet}, which has no handler`,
        inSession((session) => exchange(session, [packet], [])),
      );
    }

    test(
      "survives deep nesting",
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
      "answers each ack in order",
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
      "does not answer an event without handler",
      inSession((session) => exchange(session, ['427["unheard of"]', '428["message","x"]'], ['42["message-back","x"]'])),
    );

    for (const packet of ['43999["nobody asked"]', "430[]", '431["x"]']) {
      test(
        `ignores ${packet}, an unexpected ack`,
        inSession((session) => exchange(session, [packet], [])),
      );
    }

    test(
      "ignores an unexpected binary ack with its attachment",
      inSession((session) => exchange(session, [`461-999[${hole(0)}]`, bytes(1)], [])),
    );
  });

  describe(`${carrier.name}: acks requested by the server`, () => {
    /** Makes the server request an ack and returns its id */
    const asked = async (session, sent, shape) => {
      await session.send(...sent);
      const [, type, id, payload] = /^4([25](?:\d+-)?)(\d+)(\[.*)$/.exec(await session.next());
      assert.equal(`4${type}${payload}`, shape);
      return id;
    };

    test(
      "are answered once; ignores a second answer",
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
      "may carry attachments in both directions",
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
      "echoes one",
      inSession((session) =>
        exchange(
          session,
          [`451-["message",${hole(0)}]`, bytes(1, 2, 3)],
          [`451-["message-back",${hole(0)}]`, bytes(1, 2, 3)],
        ),
      ),
    );

    test(
      "echoes two in place",
      inSession((session) =>
        exchange(
          session,
          [`452-["message",${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
          [`452-["message-back",${hole(0)},${hole(1)}]`, bytes(1, 2, 3), bytes(4, 5, 6)],
        ),
      ),
    );

    test(
      "fills placeholders out of order, and renumbers them",
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
      "up to ten",
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
      "may arrive one by one, with a pong between",
      inSession(async (session) => {
        await session.send(`452-["message",${hole(0)},${hole(1)}]`);
        await session.send("3");
        await session.send(bytes(1));
        await session.send("3", bytes(2), "3");
        await exchange(session, [], [`452-["message-back",${hole(0)},${hole(1)}]`, bytes(1), bytes(2)]);
      }),
    );

    test(
      "keeps attachments of two consecutive events apart",
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
