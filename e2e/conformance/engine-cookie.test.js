// Engine.IO v4: the sticky-session cookie for load balancers.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { request } from "../lib/http.js";
import { CALM, startConformance } from "../lib/server.js";
import { PROFILES } from "../lib/session.js";
import { WebSocketClient } from "../lib/websocket.js";

for (const profile of PROFILES) {
  const handshake = (server) => request(`${server.url}${profile.path}?EIO=4&transport=polling`);

  describe(`${profile.name} with a cookie`, () => {
    let server;
    before(async () => {
      server = await startConformance({ ...CALM, cookie: "io" });
    });
    after(() => server.stop());

    test("sets it to the session id, only on the first response of a polling session", async () => {
      const opened = await handshake(server);
      const { sid } = JSON.parse(opened.body.slice(1));
      assert.deepEqual([opened.headers["set-cookie"]].flat(), [`io=${sid}; Path=/; HttpOnly; SameSite=Lax`]);
      const pushed = await request(`${server.url}${profile.path}?EIO=4&transport=polling&sid=${sid}`, {
        method: "POST",
        body: "1",
      });
      assert.equal(pushed.status, 200);
      assert.equal(pushed.headers["set-cookie"], undefined);
    });

    test("sets none on a rejection or over WebSocket", async () => {
      const refused = await request(`${server.url}${profile.path}?EIO=3&transport=polling`);
      assert.deepEqual([refused.status, refused.headers["set-cookie"]], [400, undefined]);
      const client = await WebSocketClient.open(`${server.url}${profile.path}?EIO=4&transport=websocket`);
      assert.equal((await client.next())[0], "0");
      client.close();
    });
  });

  test(`${profile.name} sets no cookie by default`, async () => {
    const server = await startConformance(CALM);
    try {
      assert.equal((await handshake(server)).headers["set-cookie"], undefined);
    } finally {
      await server.stop();
    }
  });
}
