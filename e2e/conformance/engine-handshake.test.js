// Engine.IO v4: the handshake, its path, and its rejections.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { rawExchange, request } from "../lib/http.js";
import { byTarget, startConformance, target } from "../lib/server.js";
import { answers, PollingSession, PROFILES, WebSocketSession } from "../lib/session.js";
import { tryOpen, turnedAway, WebSocketClient } from "../lib/websocket.js";

let server;
before(async () => {
  server = await startConformance({
    "ping-interval": 25000,
    "ping-timeout": 20000,
    "max-payload": 123456,
    "connect-timeout": 45000,
  });
});
after(() => server.stop());

const OPEN_KEYS = ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"];

for (const profile of PROFILES) {
  const at = (query, path = profile.path) => `${server.url}${path}?${query}`;

  describe(`${profile.name} handshake`, () => {
    test("over polling contains session id, timings and upgrades", async () => {
      const { status, headers, body } = await request(at("EIO=4&transport=polling"));
      assert.equal(status, 200);
      assert.equal(headers["content-type"].toLowerCase(), "text/plain; charset=utf-8");
      assert.equal(headers["cache-control"], "no-store");
      assert.equal(body[0], "0");
      const { sid, ...opened } = JSON.parse(body.slice(1));
      assert.match(sid, /^[A-Za-z0-9_-]{20}$/);
      assert.deepEqual(opened, {
        upgrades: ["websocket"],
        pingInterval: 25000,
        pingTimeout: 20000,
        maxPayload: 123456,
      });
    });

    test("over WebSocket is the first message, without upgrades", async () => {
      const client = await WebSocketClient.open(at("EIO=4&transport=websocket"));
      const first = await client.next();
      assert.equal(first[0], "0");
      const opened = JSON.parse(first.slice(1));
      assert.deepEqual(Object.keys(opened).sort(), OPEN_KEYS);
      assert.deepEqual(opened.upgrades, []);
      client.terminate();
    });

    test("gives every session a unique id", async () => {
      const opened = await Promise.all(Array.from({ length: 50 }, () => request(at("EIO=4&transport=polling"))));
      const ids = new Set(opened.map(({ body }) => JSON.parse(body.slice(1)).sid));
      assert.equal(ids.size, 50);
    });

    test("sets no cookie or CORS header by default", async () => {
      const { headers } = await request(at("EIO=4&transport=polling"), { headers: { origin: "http://a.example" } });
      assert.equal(headers["set-cookie"], undefined);
      assert.deepEqual(Object.keys(headers).filter((name) => name.startsWith("access-control")), []);
    });

    test("ignores query order, cache buster and unknown parameters", async () => {
      for (const query of [
        "transport=polling&EIO=4",
        "EIO=4&transport=polling&t=PcQ1x2",
        "EIO=4&transport=polling&b64=1",
        "EIO=4&transport=polling&token=a%26b%3Dc&room=red&room=blue",
        "EIO=4&transport=polling&&x",
      ]) {
        const { status, body } = await request(at(query));
        assert.equal(status, 200, query);
        assert.equal(body[0], "0", query);
      }
    });

    test("is served below its path too, but not without the slash", async () => {
      const below = await request(at("EIO=4&transport=polling", `${profile.path}any/thing`));
      assert.equal(below.status, 200);
      assert.equal(below.body[0], "0");
      const short = await request(at("EIO=4&transport=polling", profile.path.slice(0, -1)));
      assert.equal(short.status, 404);
    });

    test("does not handle other paths", async () => {
      const { status } = await request(at("EIO=4&transport=polling", "/elsewhere/"));
      assert.equal(status, 404);
      // Node leaves such an upgrade to other listeners; there is none here.
      if (target === "node") return;
      assert.equal((await tryOpen(at("EIO=4&transport=websocket", "/elsewhere/"))).status, 404);
    });

    test("answers the same over a keep-alive connection", async () => {
      const line = `GET ${profile.path}?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n`;
      const both = await rawExchange(server.port, `${line}\r\n${line}Connection: close\r\n\r\n`);
      assert.equal(both.match(/HTTP\/1\.1 200 OK/g)?.length, 2, both);
      assert.equal(both.match(/0\{"sid"/g)?.length, 2, both);
    });
  });

  describe(`${profile.name} rejects with 400, a code and a message`, () => {
    const refusal = (code, message) => ({ code, message });
    const UNKNOWN_TRANSPORT = refusal(0, "Transport unknown");
    const UNKNOWN_SID = refusal(1, "Session ID unknown");
    const BAD_METHOD = refusal(2, "Bad handshake method");
    const BAD_REQUEST = refusal(3, "Bad request");
    const BAD_VERSION = refusal(5, "Unsupported protocol version");

    const CASES = [
      ["no query at all", "GET", "", UNKNOWN_TRANSPORT],
      ["no transport", "GET", "EIO=4", UNKNOWN_TRANSPORT],
      ["an empty transport", "GET", "EIO=4&transport=", UNKNOWN_TRANSPORT],
      ["an unknown transport", "GET", "EIO=4&transport=abc", UNKNOWN_TRANSPORT],
      ["a transport in capitals", "GET", "EIO=4&transport=POLLING", UNKNOWN_TRANSPORT],
      ["webtransport over HTTP/1.1", "GET", "EIO=4&transport=webtransport", UNKNOWN_TRANSPORT],
      ["a property name of JavaScript objects", "GET", "EIO=4&transport=constructor", UNKNOWN_TRANSPORT],
      ["an unknown transport, for any version", "GET", "EIO=3&transport=abc", UNKNOWN_TRANSPORT],
      ["an unknown session on GET", "GET", "EIO=4&transport=polling&sid=zzzzzzzzzzzzzzzzzzzz", UNKNOWN_SID],
      ["an unknown session on POST", "POST", "EIO=4&transport=polling&sid=zzzzzzzzzzzzzzzzzzzz", UNKNOWN_SID],
      ["an unknown session on a WebSocket request", "GET", "EIO=4&transport=websocket&sid=zzz", UNKNOWN_SID],
      ["an unknown session, for any version", "GET", "transport=polling&sid=zzz", UNKNOWN_SID],
      ["POST without a session", "POST", "EIO=4&transport=polling", BAD_METHOD],
      ["PUT without a session", "PUT", "EIO=4&transport=polling", BAD_METHOD],
      ["DELETE without a session", "DELETE", "EIO=4&transport=polling", BAD_METHOD],
      ["OPTIONS while CORS is off", "OPTIONS", "EIO=4&transport=polling", BAD_METHOD],
      ["websocket without an upgrade", "GET", "EIO=4&transport=websocket", BAD_REQUEST],
      ["no version", "GET", "transport=polling", BAD_VERSION],
      ["an empty version", "GET", "EIO=&transport=polling", BAD_VERSION],
      ["version 3", "GET", "EIO=3&transport=polling", BAD_VERSION],
      ["version 5", "GET", "EIO=5&transport=polling", BAD_VERSION],
      ["version 04", "GET", "EIO=04&transport=polling", BAD_VERSION],
      ["version abc", "GET", "EIO=abc&transport=polling", BAD_VERSION],
    ];
    for (const [what, method, query, expected] of CASES) {
      test(what, async () => {
        const { status, headers, body } = await request(at(query), { method });
        assert.equal(status, 400);
        assert.match(headers["content-type"], /^application\/json/);
        assert.deepEqual(JSON.parse(body), expected);
      });
    }

    test("HEAD without a session, with no body", async () => {
      const { status, body } = await request(at("EIO=4&transport=polling"), { method: "HEAD" });
      assert.deepEqual([status, body], [400, ""]);
    });

    test("an Origin with a control character", async () => {
      const answer = await rawExchange(
        server.port,
        `GET ${profile.path}?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\x01b\r\n` +
          "Connection: close\r\n\r\n",
      );
      assert.match(answer, /^HTTP\/1\.1 400 /);
    });

    test("a transport the session does not use", async () => {
      const socket = await WebSocketSession.open(server, profile);
      const polling = await PollingSession.open(server, profile);
      for (const [method, query] of [
        ["GET", `EIO=4&transport=polling&sid=${socket.sid}`],
        ["POST", `EIO=4&transport=polling&sid=${socket.sid}`],
        ["GET", `EIO=4&transport=websocket&sid=${polling.sid}`],
      ]) {
        const { status, body } = await request(at(query), { method });
        assert.equal(status, 400);
        assert.deepEqual(JSON.parse(body), BAD_REQUEST);
      }
      await answers(socket, profile);
      await answers(polling, profile);
      await socket.leave();
      await polling.leave();
    });

    for (const version of ["", "EIO=3&"]) {
      test(`${version ? version.slice(0, -1) : "no version"} in a session of version 4, which stays open`, async () => {
        const session = await PollingSession.open(server, profile);
        const { status, body } = await request(at(`${version}transport=polling&sid=${session.sid}`));
        assert.equal(status, 400);
        assert.deepEqual(JSON.parse(body), BAD_REQUEST);
        await answers(session, profile);
        await session.leave();
      });
    }
  });

  describe(`${profile.name} rejects an upgrade`, () => {
    const CASES = [
      ["without a transport", "EIO=4", "Transport unknown"],
      ["to an unknown transport", "EIO=4&transport=abc", "Transport unknown"],
      ["to webtransport", "EIO=4&transport=webtransport", "Transport unknown"],
      ["of an unknown session", "EIO=4&transport=websocket&sid=zzzzzzzzzzzzzzzzzzzz", "Session ID unknown"],
      ["of an unknown session, for any version", "transport=websocket&sid=zzz", "Session ID unknown"],
    ];
    for (const [what, query, message] of CASES) {
      test(what, async () => {
        const answer = await tryOpen(at(query));
        assert.deepEqual([answer.status, answer.body], [400, message]);
        assert.match(answer.headers["content-type"], /^text\/html/);
        assert.equal(answer.headers.connection, "close");
      });
    }

    for (const version of ["", "EIO=3&", "EIO=abc&"]) {
      test(`with ${version ? version.slice(0, -1) : "no version"}`, async () => {
        const answer = await turnedAway(at(`${version}transport=websocket`));
        // Node accepts the WebSocket and then writes its 400 into it; Roomcast rejects before the upgrade.
        const expected = byTarget({ node: [undefined, undefined], roomcast: [400, "Unsupported protocol version"] });
        assert.deepEqual([answer.status, answer.body], expected);
      });
    }

    test("with transport=polling", async () => {
      const answer = await turnedAway(at("EIO=4&transport=polling"));
      if (!answer.client) assert.equal(answer.status, 400);
    });

    test("and closes the connection", async () => {
      const answer = await rawExchange(server.port, upgradeRequest(at("EIO=4&transport=abc")));
      assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/);
      assert.match(answer, /\r\n\r\nTransport unknown$/);
    });

    for (const [what, change] of [
      ["without a key", { "Sec-WebSocket-Key": undefined }],
      ["with a key that is too short", { "Sec-WebSocket-Key": "dG9vIHNob3J0" }],
      ["with an unknown version of WebSocket", { "Sec-WebSocket-Version": "12" }],
    ]) {
      test(what, async () => {
        const answer = await rawExchange(server.port, upgradeRequest(at("EIO=4&transport=websocket"), change));
        assert.match(answer, /^HTTP\/1\.1 4(00|26) /);
      });
    }
  });
}

function upgradeRequest(url, change = {}) {
  const headers = {
    Host: "localhost",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAECAwQFBgcICQoLDA0ODw==",
    ...change,
  };
  const lines = Object.entries(headers).filter(([, value]) => value !== undefined);
  const { pathname, search } = new URL(url);
  return `GET ${pathname}${search} HTTP/1.1\r\n${lines.map((line) => line.join(": ")).join("\r\n")}\r\n\r\n`;
}
