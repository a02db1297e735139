// The command `roomcast serve --redis-mode classic`, and `streams`, with a server of Node.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io } from "socket.io-client";
import WebSocket from "ws";
import { connect, until } from "../lib/cluster.js";
import { startRedis } from "../lib/redis.js";
import { startClusterServer, startDemo } from "../lib/server.js";

for (const mode of ["classic", "streams"]) {
  describe(mode, () => {
    let redis;
    let node;
    let roomcast;

    before(async () => {
      redis = await startRedis();
      node = await startClusterServer("ioredis", redis.port, { name: "node", prefix: "chat", mode });
      roomcast = await startDemo(0, {
        redis: `redis://127.0.0.1:${redis.port}`,
        "redis-mode": mode,
        "redis-prefix": "chat",
      });
    });

    after(async () => {
      assert.equal(await node?.stop(), "SIGTERM", `the server of Node ended by itself: ${node?.output}`);
      await roomcast?.stop();
      await redis?.stop();
    });

    test("clients of the command and of Node share rooms", async () => {
      const there = await connect(node, "/");
      const heard = [];
      const plain = new WebSocket(`${roomcast.url.replace("http", "ws")}/ws`);
      await new Promise((resolve) => plain.once("open", resolve));
      plain.on("message", (data) => heard.push(String(data)));
      plain.send("/join all");
      await until(() => heard.some((line) => line.includes("welcome")), "the room is joined");
      const here = io(roomcast.url, { transports: ["websocket"] });
      const said = [];
      here.onAny((event, ...args) => said.push([event, ...args]));
      await new Promise((resolve) => here.once("connect", resolve));

      // From Node to clients of both kinds here, by room; the client that joined nothing gets it only without a room.
      await until(async () => {
        await there.run("emit", { to: ["all"] }, "from node", 7);
        return heard.some((line) => line.includes("from node"));
      }, "an event of Node for a room");
      assert.equal(said.some(([event]) => event === "from node"), false);
      await there.run("emit", {}, "to everyone", 8);
      await until(() => said.some(([event, number]) => event === "to everyone" && number === 8), "an event of Node for all");

      // And back, by the demo's own event.
      await here.emitWithAck("room", "all", "hello", "tag");
      await there.has("room");
      const [, { text, from }] = there.events.find(([event]) => event === "room");
      assert.deepEqual([text, from], ["hello", here.id]);
      there.socket.disconnect();
      here.disconnect();
      plain.terminate();
    });
  });
}
