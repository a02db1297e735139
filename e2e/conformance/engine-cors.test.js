// Engine.IO v4 in browsers: CORS headers for other origins.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { request } from "../lib/http.js";
import { CALM, startConformance } from "../lib/server.js";
import { answers, PollingSession, PROFILES, SEPARATOR } from "../lib/session.js";

const LIMIT = 1000;

for (const { allowed, told } of [
  { allowed: "*", told: "*" },
  { allowed: "http://a.example", told: "http://a.example" },
]) {
  describe(`CORS open to ${allowed}`, () => {
    let server;
    before(async () => {
      server = await startConformance({ ...CALM, "max-payload": LIMIT, cors: allowed });
    });
    after(() => server.stop());

    for (const profile of PROFILES) {
      const at = (query) => `${server.url}${profile.path}?${query}`;
      const preflight = (origin, query = "EIO=4&transport=polling") =>
        request(at(query), {
          method: "OPTIONS",
          headers: {
            origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-token",
          },
        });

      test(`${profile.name} answers a preflight`, async () => {
        for (const query of ["EIO=4&transport=polling", "EIO=4&transport=polling&sid=zzzz"]) {
          const { status, headers, body } = await preflight("http://a.example", query);
          assert.deepEqual([status, body], [204, ""]);
          assert.equal(headers["access-control-allow-origin"], told);
          const methods = headers["access-control-allow-methods"].split(/, */);
          assert.ok(["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"].every((method) => methods.includes(method)));
          assert.equal(headers["access-control-allow-headers"], "content-type,x-token");
          assert.match(headers.vary, /access-control-request-headers/i);
          assert.equal(headers["access-control-allow-credentials"], undefined);
        }
      });

      test(`${profile.name} sets the headers on a handshake, a GET and a POST`, async () => {
        const origin = { origin: "http://a.example" };
        const opened = await request(at("EIO=4&transport=polling"), { headers: origin });
        assert.equal(opened.headers["access-control-allow-origin"], told);
        const session = await PollingSession.open(server, profile, { headers: origin });
        const pushed = await session.push(profile.say("hello"));
        assert.equal(pushed.headers["access-control-allow-origin"], told);
        const polled = await session.poll();
        assert.equal(polled.body, profile.heard("hello"));
        assert.equal(polled.headers["access-control-allow-origin"], told);
        await session.leave();
      });

      test(`${profile.name} sets the headers on errors too`, async () => {
        const headers = { origin: "http://a.example" };
        const session = await PollingSession.open(server, profile, { headers });
        const ended = await PollingSession.open(server, profile, { headers });
        const errors = [
          [400, await request(at("EIO=4&transport=abc"), { headers })],
          [400, await request(at("EIO=3&transport=polling"), { headers })],
          [400, await request(at("EIO=4&transport=polling&sid=zzzz"), { headers })],
          [413, await session.push("4".padEnd(LIMIT + 1, "x"), { agent: false })],
          [400, await ended.push("4x", { headers: { ...headers, "content-type": "application/octet-stream" } })],
        ];
        for (const [status, answer] of errors) {
          assert.equal(answer.status, status);
          assert.equal(answer.headers["access-control-allow-origin"], told);
        }
      });

      if (allowed !== "*") {
        test(`${profile.name} allows no other origin, and sets Vary`, async () => {
          // Node sends the allowed origin to all pages; sending none also excludes the other page.
          const opened = await request(at("EIO=4&transport=polling"), { headers: { origin: "http://b.example" } });
          assert.equal(opened.status, 200);
          const asked = await preflight("http://b.example");
          assert.equal(asked.status, 204);
          for (const { headers } of [opened, asked]) {
            assert.ok([told, undefined].includes(headers["access-control-allow-origin"]));
            assert.match(headers.vary, /\borigin\b/i);
          }
        });
      }

      test(`${profile.name} sets no headers without an Origin`, async () => {
        const session = await PollingSession.open(server, profile);
        await answers(session, profile);
        await session.send([profile.say("one"), profile.say("two")].join(SEPARATOR));
        assert.equal(await session.next(), profile.heard("one"));
        assert.equal(await session.next(), profile.heard("two"));
        await session.leave();
      });
    }
  });
}
