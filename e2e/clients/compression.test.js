// permessage-deflate (RFC 7692) with ws, for each set of parameters, and socket.io-client.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { PATIENCE } from "../lib/patience.js";
import { startConformance, startDemo } from "../lib/server.js";

const LARGE = JSON.stringify(Array.from({ length: 200 }, (_, id) => ({ id, user: `user ${id % 7}`, text: "hello" })));

/** Waits for `count` messages */
const messages = (socket, count) =>
  new Promise((resolve, reject) => {
    const got = [];
    const late = setTimeout(() => reject(new Error(`${got.length} of ${count} messages arrived`)), PATIENCE);
    socket.on("message", (data, binary) => {
      got.push(binary ? data : data.toString());
      if (got.length < count) return;
      clearTimeout(late);
      resolve(got);
    });
  });

/** An open `ws` client with this `perMessageDeflate` offer */
async function open(url, perMessageDeflate) {
  const socket = new WebSocket(url.replace(/^http/, "ws"), { perMessageDeflate });
  // The demo's `hello` may arrive with the handshake.
  const greeting = once(socket, "message");
  await once(socket, "open");
  if (url.endsWith("/ws")) await greeting;
  return socket;
}

/** Bytes received over the socket during `body` */
async function received(socket, body) {
  const before = socket._socket.bytesRead;
  await body();
  return socket._socket.bytesRead - before;
}

for (const kept of [false, true]) {
  describe(kept ? "contexts are kept" : "contexts are not kept", () => {
    let server;
    before(async () => {
      // The conformance server keeps contexts, for messages of any size; the demo has the defaults.
      server = kept ? await startConformance({ compression: true }) : await startDemo(0, { compression: true });
    });
    after(() => server.stop());

    for (const [offer, agreed] of [
      [{}, {}],
      [{ serverNoContextTakeover: true }, { server_no_context_takeover: true }],
      [{ clientNoContextTakeover: true }, { client_no_context_takeover: true }],
      [{ serverMaxWindowBits: 9 }, { server_max_window_bits: 9 }],
      [
        { serverMaxWindowBits: 10, clientMaxWindowBits: 9, threshold: 0 },
        // The client records its own offer.
        { server_max_window_bits: kept ? 10 : 9, client_max_window_bits: 9 },
      ],
      [{ clientMaxWindowBits: false, threshold: 0 }, {}],
    ]) {
      test(`ws offers ${JSON.stringify(offer)}`, async () => {
        const socket = await open(`${server.url}${kept ? "/echo" : "/ws"}`, { threshold: 0, ...offer });
        assert.match(socket.extensions, /permessage-deflate/);
        const { params } = socket._extensions["permessage-deflate"];
        const none = kept ? {} : { server_no_context_takeover: true, client_no_context_takeover: true };
        assert.deepEqual({ ...params }, { ...none, ...agreed });
        const sent = [LARGE, "small", LARGE, "déjà 👩‍🚀".repeat(100), LARGE];
        const bytes = await received(socket, async () => {
          const came = messages(socket, sent.length);
          for (const text of sent) socket.send(text);
          const heard = (await came).map((text) => (kept ? text : JSON.parse(text)[1].text));
          assert.deepEqual(heard, sent);
        });
        const all = sent.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
        assert.ok(bytes < all / 4, `${bytes} of ${all} bytes`);
        socket.terminate();
      });
    }

    test("a client without the offer receives uncompressed messages", async () => {
      const socket = await open(`${server.url}${kept ? "/echo" : "/ws"}`, false);
      assert.equal(socket.extensions, "");
      const bytes = await received(socket, async () => {
        const came = messages(socket, 1);
        socket.send(LARGE);
        assert.ok((await came)[0].includes(kept ? LARGE : JSON.stringify(LARGE).slice(1, -1)));
      });
      assert.ok(bytes > LARGE.length);
      socket.terminate();
    });

    test("declines a server window of 8 bits and continues uncompressed", async () => {
      const socket = await open(`${server.url}${kept ? "/echo" : "/ws"}`, { serverMaxWindowBits: 8 });
      assert.equal(socket.extensions, "");
      socket.terminate();
    });

    test("echoes binary messages, fragmented too", { skip: !kept && "the demo echoes text" }, async () => {
      const socket = await open(`${server.url}/echo`, { threshold: 0 });
      const came = messages(socket, 3);
      const zeros = Buffer.alloc(300_000);
      const noise = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * at * 31 + (at >> 3)) & 255));
      socket.send(zeros);
      socket.send(noise.subarray(0, 100), { fin: false });
      socket.send(noise.subarray(100, 100), { fin: false });
      socket.send(noise.subarray(100));
      socket.send(zeros);
      const [first, second, third] = await came;
      assert.ok(first.equals(zeros) && second.equals(noise) && third.equals(zeros));
      socket.terminate();
    });

    for (const transports of [["websocket"], ["polling", "websocket"]]) {
      test(`socket.io-client by ${transports.join(", then ")}`, async () => {
        const client = io(server.url, { transports, perMessageDeflate: { threshold: 0 }, forceNew: true });
        await once(client, "connect");
        if (client.io.engine.transport.name !== "websocket") await once(client.io.engine, "upgrade");
        const socket = client.io.engine.transport.ws;
        assert.match(socket.extensions, /permessage-deflate/);
        const bytes = await received(socket, async () => {
          for (let round = 0; round < 3; round += 1) {
            if (kept) {
              const answer = once(client, "message-back");
              client.emit("message", LARGE, Buffer.alloc(50_000, round));
              const [text, binary] = await answer;
              assert.equal(text, LARGE);
              assert.ok(binary.equals(Buffer.alloc(50_000, round)));
            } else {
              const answer = once(client, "everyone");
              client.emit("everyone", LARGE);
              assert.equal((await answer)[0].text, LARGE);
            }
          }
        });
        assert.ok(bytes < LARGE.length, `${bytes} bytes`);
        client.disconnect();
      });
    }
  });
}
