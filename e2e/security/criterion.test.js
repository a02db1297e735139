// The criterion itself: an attack that succeeds has to fail its test.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { MIB, pause, withstand } from "../lib/attack.js";
import { frame, httpRequest, text } from "../lib/raw.js";

const BOUNDS = { growth: 8 * MIB };

test("what does no harm is withstood", async () => {
  await withstand(BOUNDS, async (target) => (await target.engine()).send(text("4x")));
});

test("a server that ends is noticed", async () => {
  const kill = (target) => process.kill(target.pid, "SIGKILL");
  await assert.rejects(withstand(BOUNDS, kill), /the server ended with SIGKILL/);
});

test("bystanders that wait are noticed", async () => {
  const hold = async (target) => {
    process.kill(target.pid, "SIGSTOP");
    await pause(1300);
    process.kill(target.pid, "SIGCONT");
  };
  await assert.rejects(withstand(BOUNDS, hold), /a bystander waited [1-9]\d{3,} ms/);
});

test("bystanders that are thrown out are noticed", async () => {
  // They never answer the pings of a server that is stopped, and it closes them when it goes on.
  const starve = async (target) => {
    process.kill(target.pid, "SIGSTOP");
    await pause(300);
    process.kill(target.pid, "SIGTERM");
    process.kill(target.pid, "SIGCONT");
    await pause(300);
  };
  await assert.rejects(withstand(BOUNDS, starve), /the server ended with|a bystander was hurt/);
});

test("memory that is taken is noticed, even if it is given back", async () => {
  const fill = async (target) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => target.engine()));
    // The first part of a message each, for the server to keep.
    const part = frame("x".repeat(900_000), { fin: false });
    const before = target.memory();
    await Promise.all(clients.map((client) => client.write(part)));
    await target.eventually(() => target.memory() > before + BOUNDS.growth, () => "it does not keep them", 1000);
    for (const client of clients) client.destroy();
  };
  await assert.rejects(withstand(BOUNDS, fill), /the server took \d+\.\d MiB more; up to 8\.0 are allowed/);
});

test("descriptors that stay open are noticed", async () => {
  let kept;
  const keep = async (target) => {
    kept = connect(target.port, "127.0.0.1");
    await pause(100);
  };
  await assert.rejects(withstand(BOUNDS, keep), /1 descriptors were not given back/);
  kept.destroy();
});

test("a server that stays busy is noticed", async () => {
  let going = true;
  let socket;
  const nag = async (target) => {
    // On a descriptor that was there before, so that nothing else is noticed first.
    const { port } = target;
    const request = httpRequest("GET", "/nothing");
    const idle = await target.engine();
    idle.destroy();
    await pause(50);
    target.descriptors = () => 0;
    socket = connect(port, "127.0.0.1", () => socket.write(request.repeat(2000)));
    // As many again as were answered, so that it always has some before it, however seldom this program has its turn.
    socket.setEncoding("latin1");
    socket.on("data", (answers) => going && socket.write(request.repeat(answers.split("HTTP/1.1").length - 1)));
    socket.on("error", () => {});
    await pause(100);
  };
  await assert.rejects(withstand(BOUNDS, nag), /the server is still busy/);
  going = false;
  socket.destroy();
});
