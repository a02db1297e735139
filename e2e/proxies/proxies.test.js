// The reverse proxies of the manual between real clients and the server.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { PATIENCE } from "../lib/patience.js";
import { configuration, startProxy } from "../lib/proxies.js";
import { startDemo } from "../lib/server.js";

const COOKIE = "session=secret";
const TRUSTED = { "trusted-proxy": "127.0.0.1" };

/** Arguments of an event, or an error if the other one comes first */
const heard = (emitter, event, failure) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${event}`)), PATIENCE);
    emitter.once(event, (...args) => (clearTimeout(late), resolve(args)));
    if (failure) emitter.once(failure, (error) => (clearTimeout(late), reject(error)));
  });

/** Request headers of a page served by the proxy, with its cookie */
async function visits(proxy, transports, origin = proxy.url) {
  const extraHeaders = { Cookie: COOKIE, Origin: origin };
  const socket = io(proxy.url, { transports, extraHeaders, forceNew: true, reconnection: false });
  try {
    await heard(socket, "connect", "connect_error");
    if (transports.length > 1 && socket.io.engine.transport.name === "polling") await heard(socket.io.engine, "upgrade");
    const text = "x".repeat(100_000);
    const back = heard(socket, "echo");
    socket.emit("echo", text);
    assert.deepEqual(await back, [text]);
    return socket.io.engine.transport.name;
  } finally {
    socket.disconnect();
  }
}

/** Status of a polling handshake with a cookie, from this client address */
function status(proxy, { origin = proxy.url, from = "127.0.0.1" } = {}) {
  const headers = { Cookie: COOKIE, Origin: origin };
  return new Promise((resolve, reject) => {
    const url = `${proxy.url}/socket.io/?EIO=4&transport=polling`;
    http.get(url, { headers, localAddress: from, agent: false }, (answer) => resolve(answer.resume().statusCode)).once("error", reject);
  });
}

/** Status of a plain WebSocket handshake of a page with a cookie, 101 if it opens */
const opens = (proxy, origin = proxy.url) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`${proxy.url.replace("http", "ws")}/ws`, { headers: { Cookie: COOKIE }, origin });
    socket.once("open", () => (socket.terminate(), resolve(101)));
    socket.once("unexpected-response", (_, answer) => resolve(answer.resume().statusCode));
    socket.once("error", reject);
  });

const SETUPS = [
  { title: "nginx", program: "nginx", block: "nginx" },
  { title: "HAProxy", program: "haproxy", block: "haproxy" },
  { title: "HAProxy by TCP", program: "haproxy", block: "haproxy-tcp", flags: { "proxy-protocol": true } },
  { title: "Caddy", program: "caddy", block: "caddyfile" },
];

for (const { title, program, block, flags } of SETUPS) {
  describe(`behind ${title}, configured as documented`, () => {
    let server;
    let proxy;
    before(async () => {
      server = await startDemo(0, { ...TRUSTED, ...flags, "max-connections-per-address": 6 });
      proxy = await startProxy(program, configuration(block), server.port);
    });
    after(async () => {
      await proxy?.stop();
      await server?.stop();
    });

    test("a page with a cookie connects by each transport", async () => {
      assert.equal(await visits(proxy, ["websocket"]), "websocket");
      assert.equal(await visits(proxy, ["polling"]), "polling");
      assert.equal(await visits(proxy, ["polling", "websocket"]), "websocket");
      assert.equal(await opens(proxy), 101);
    });

    test("rejects a page of another site with a cookie", async () => {
      for (const origin of ["https://evil.example", "http://127.0.0.1:1"]) {
        assert.equal(await status(proxy, { origin }), 403);
        assert.equal(await opens(proxy, origin), 403);
      }
    });

    test("counts each client by its own address", async () => {
      // More sessions than one address may have, from two clients at other addresses of this machine.
      const statuses = async (from) => {
        const all = [];
        for (let count = 0; count < 7; count += 1) all.push(await status(proxy, { from }));
        return all;
      };
      const few = [200, 200, 200, 200, 200, 200, 503];
      assert.deepEqual(await statuses("127.0.0.2"), few);
      assert.deepEqual(await statuses("127.0.0.3"), few);
    });
  });
}

describe("behind nginx without a forwarded Host header", () => {
  const manual = configuration("nginx");
  const line = "proxy_set_header Host $http_host;";
  const forwarded = "proxy_set_header X-Forwarded-Host $http_host;";
  assert.ok(manual.includes(line) && manual.includes(forwarded));
  const bare = manual.replace(forwarded, "");

  const behind = async (text, flags, body) => {
    const server = await startDemo(0, flags);
    try {
      const proxy = await startProxy("nginx", text, server.port);
      await body(proxy, server).finally(proxy.stop);
    } finally {
      await server.stop();
    }
  };
  const refusals = [
    ["no line for it", bare.replace(line, "")],
    ["$host on another port", bare.replace(line, "proxy_set_header Host $host;")],
  ];
  for (const [title, text] of refusals) {
    test(`${title}: rejects a page with a cookie and logs the fix`, () =>
      behind(text, TRUSTED, async (proxy, server) => {
        assert.equal(await status(proxy), 403);
        assert.equal(await opens(proxy), 403);
        await assert.rejects(visits(proxy, ["websocket"]));
        await assert.rejects(visits(proxy, ["polling"]));
        assert.match(server.output, /cross-origin request refused/);
        assert.ok(server.output.includes("proxy_set_header Host $http_host"), server.output);
      }));
  }

  test("accepts X-Forwarded-Host of a trusted proxy", () =>
    behind(manual.replace(line, ""), TRUSTED, async (proxy) => {
      assert.equal(await visits(proxy, ["websocket"]), "websocket");
      assert.equal(await visits(proxy, ["polling"]), "polling");
    }));

  test("ignores X-Forwarded-Host of other peers and logs the proxy", () =>
    behind(manual.replace(line, ""), {}, async (proxy, server) => {
      assert.equal(await status(proxy), 403);
      assert.ok(server.output.includes("trust 127.0.0.1"), server.output);
    }));
});
