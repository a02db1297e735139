// Tests of the criterion: a successful attack must fail its test.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { MIB, pause, withstand } from "../lib/attack.js";
import { frame, httpRequest, text } from "../lib/raw.js";

const BOUNDS = { growth: 8 * MIB };

test("a harmless attack passes", async () => {
  await withstand(BOUNDS, async (target) => (await target.engine()).send(text("4x")));
});

test("detects a server that exits", async () => {
  const kill = (target) => process.kill(target.pid, "SIGKILL");
  await assert.rejects(withstand(BOUNDS, kill), /the server exited with SIGKILL/);
});

test("detects delayed bystanders", async () => {
  const hold = async (target) => {
    process.kill(target.pid, "SIGSTOP");
    await pause(1300);
    process.kill(target.pid, "SIGCONT");
  };
  await assert.rejects(withstand(BOUNDS, hold), /a bystander waited [1-9]\d{3,} ms/);
});

test("detects disconnected bystanders", async () => {
  // The bystanders get no pings of a stopped server, which closes them when it continues.
  const starve = async (target) => {
    process.kill(target.pid, "SIGSTOP");
    await pause(300);
    process.kill(target.pid, "SIGTERM");
    process.kill(target.pid, "SIGCONT");
    await pause(300);
  };
  await assert.rejects(withstand(BOUNDS, starve), /the server exited with|a bystander was affected/);
});

test("detects peak memory, even if it is released", async () => {
  const fill = async (target) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => target.engine()));
    // The first fragment of a message each, which the server buffers.
    const part = frame("x".repeat(900_000), { fin: false });
    const before = target.memory();
    await Promise.all(clients.map((client) => client.write(part)));
    await target.eventually(() => target.memory() > before + BOUNDS.growth, () => "the server does not retain them", 1000);
    for (const client of clients) client.destroy();
  };
  await assert.rejects(withstand(BOUNDS, fill), /the server took \d+\.\d MiB more; up to 8\.0 are allowed/);
});

test("detects leaked descriptors", async () => {
  let kept;
  const keep = async (target) => {
    kept = connect(target.port, "127.0.0.1");
    await pause(100);
  };
  await assert.rejects(withstand(BOUNDS, keep), /1 descriptors were not given back/);
  kept.destroy();
});

test("detects a server that stays busy", async () => {
  let going = true;
  let socket;
  const nag = async (target) => {
    // On an existing connection, so that no descriptor is detected first.
    const { port } = target;
    const request = httpRequest("GET", "/nothing");
    const idle = await target.engine();
    idle.destroy();
    await pause(50);
    target.descriptors = () => 0;
    socket = connect(port, "127.0.0.1", () => socket.write(request.repeat(2000)));
    // A new request for each response, so that the server always has some pending, however rarely this program runs.
    socket.setEncoding("latin1");
    socket.on("data", (answers) => going && socket.write(request.repeat(answers.split("HTTP/1.1").length - 1)));
    socket.on("error", () => {});
    await pause(100);
  };
  await assert.rejects(withstand(BOUNDS, nag), /the server is still busy/);
  going = false;
  socket.destroy();
});
