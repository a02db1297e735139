// https and wss with Node clients, and a certificate reload while they are connected.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { PATIENCE } from "../lib/patience.js";
import { startDemo, target } from "../lib/server.js";

const CERTIFICATES = fileURLToPath(new URL("../../crates/server/tests/certificates/", import.meta.url));
const certificate = (name) => readFileSync(join(CERTIFICATES, `${name}.crt`));

describe("TLS", { skip: target === "node" && "the reference has none" }, () => {
  let folder;
  let server;
  const show = (name) => {
    for (const kind of ["crt", "key"]) copyFileSync(join(CERTIFICATES, `${name}.${kind}`), join(folder, `now.${kind}`));
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "roomcast-"));
    show("one");
    server = await startDemo(0, { "tls-cert": join(folder, "now.crt"), "tls-key": join(folder, "now.key") });
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  const heard = (emitter, event) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${event}`)), PATIENCE);
      emitter.once(event, (...args) => (clearTimeout(late), resolve(args)));
    });
  const connect = async (ca, transports) => {
    const socket = io(server.url, { ca, transports, forceNew: true, reconnection: false });
    const refused = heard(socket, "connect_error").then(([error]) => Promise.reject(error));
    await Promise.race([heard(socket, "connect"), refused]);
    refused.catch(() => {});
    return socket;
  };
  const page = (ca) =>
    new Promise((resolve, reject) => {
      https.get(server.url, { ca, agent: false }, (response) => resolve(response.resume().statusCode)).on("error", reject);
    });

  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    test(`socket.io-client by ${transports.join(" and ")}`, async () => {
      const socket = await connect(certificate("one"), transports);
      const others = await connect(certificate("one"), transports);
      assert.deepEqual((await socket.timeout(PATIENCE).emitWithAck("join", "red")).ok, true);
      await others.timeout(PATIENCE).emitWithAck("join", "red");
      const large = "x".repeat(300_000);
      const said = heard(socket, "room");
      others.emit("room", "red", large);
      assert.equal((await said)[0].text, large);
      socket.disconnect();
      others.disconnect();
    });
  }

  test("plain WebSocket over wss", async () => {
    const socket = new WebSocket(`wss://127.0.0.1:${server.port}/ws`, { ca: certificate("one") });
    const [hello] = await heard(socket, "message");
    assert.equal(JSON.parse(hello)[0], "hello");
    socket.close();
    await heard(socket, "close");
  });

  test("SIGHUP reloads the certificate and keeps connections", async () => {
    const early = await connect(certificate("one"), ["websocket"]);
    show("two");
    server.child.kill("SIGHUP");
    const deadline = Date.now() + PATIENCE;
    while ((await page(certificate("two")).catch(() => 0)) !== 200) {
      assert.ok(Date.now() < deadline, "the new certificate is not served");
    }
    await assert.rejects(page(certificate("one")));
    assert.deepEqual((await early.timeout(PATIENCE).emitWithAck("join", "blue")).rooms, ["blue"]);
    const late = await connect(certificate("two"), ["polling", "websocket"]);
    late.disconnect();
    early.disconnect();
  });
});
