// `roomcast bench` against Node servers: ws and socket.io, set up as in their documentation.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";
import { binary, target } from "../lib/server.js";

/** Runs it for a second; resolves to its exit code and JSON report */
const bench = (...args) =>
  new Promise((resolve) => {
    const usual = ["--clients", "20", "--warmup", "0.1", "--seconds", "1", "--json", "-"];
    execFile(binary("roomcast"), ["bench", ...args, ...usual], (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stderr, report: stdout ? JSON.parse(stdout) : undefined }),
    );
  });

const faultless = ({ code, report, stderr }) => {
  assert.equal(code, 0, stderr);
  assert.ok(report.ok && report.deliveries > 20, JSON.stringify(report));
};

const options = { skip: target === "node" && "it is no server, so there is nothing to compare" };

describe("roomcast bench", options, () => {
  let plain, http, io;
  before(async () => {
    plain = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    plain.on("connection", (socket, request) => {
      socket.on("message", (data, isBinary) => {
        const everyone = request.url === "/others" ? [...plain.clients].filter((it) => it !== socket) : [socket];
        everyone.forEach((client) => client.send(data, { binary: isBinary }));
      });
    });
    http = createServer();
    io = new Server(http);
    io.on("connection", (socket) => {
      socket.on("echo", (text) => socket.emit("echo", text));
      socket.on("msg", (text) => io.emit("msg", text));
      socket.on("join", (room) => socket.join(room));
      socket.on("room", (room, text) => io.to(room).emit("msg", text));
    });
    io.of("/chat").use((socket, next) => next(socket.handshake.auth.token === "x" ? undefined : new Error("no token")));
    io.of("/chat").on("connection", (socket) => {
      socket.emit("hello", socket.id);
      socket.on("say", ({ text }) => io.of("/chat").emit("said", { from: socket.id, text }));
    });
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  });
  after(() => {
    plain.close();
    io.close();
  });

  const ws = () => `ws://127.0.0.1:${plain.address().port}`;
  const sio = () => `http://127.0.0.1:${http.address().port}`;

  test("echo of ws", async () => faultless(await bench(ws())));

  test("broadcast of ws without the sender", async () =>
    faultless(await bench(`${ws()}/others`, "--pattern", "broadcast", "--without-sender")));

  test("reports a missing broadcast as lost", async () => {
    const { code, report } = await bench(ws(), "--pattern", "broadcast", "--stall", "1");
    assert.equal(code, 1);
    assert.match(report.error, /1 of 20 clients/);
  });

  for (const transport of ["websocket", "polling"]) {
    for (const pattern of ["echo", "broadcast", "rooms"]) {
      test(`${pattern} of socket.io by ${transport}`, async () =>
        faultless(await bench(sio(), "--transport", transport, "--pattern", pattern, "--rooms", "4")));
    }
  }

  test("namespace with a token and custom templates", async () => {
    const chat = ["--namespace", "/chat", "--pattern", "broadcast", "--message", '["say",{"text":"{payload}"}]'];
    const outcome = await bench(sio(), ...chat, "--auth", '{"token":"x"}');
    faultless(outcome);
    assert.equal(outcome.report.others, 20, "each was greeted");
    const refused = await bench(sio(), ...chat);
    assert.equal(refused.code, 1);
    assert.match(refused.report.error, /no token/);
  });
});
