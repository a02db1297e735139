// Servers of Roomcast and of Node with the classic adapter in one cluster.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { BINARY_ARGS, registerOperations } from "./operations.js";

registerOperations("classic", (namespace, cluster) => {
  test(`${namespace} from the emitter`, async () => {
    const { all, commands } = cluster();
    const emitter = new Emitter(commands).of(namespace);
    for (const client of Object.values(all)) client.take();
    emitter.to(["a#b", "all"]).except("nobody").volatile.emit("several");
    emitter.emit("binary", ...BINARY_ARGS);
    emitter.to(all.redis.socket.id).emit("private");
    emitter.in("all").socketsJoin("new");
    emitter.to("new").emit("joined");
    emitter.in("all").socketsLeave("new");
    emitter.to("new").emit("left");
    emitter.serverSideEmit("note", 1);
    emitter.emit("marker");
    for (const [name, client] of Object.entries(all)) {
      await client.has("marker");
      await client.has("noted");
      const mine = name === "redis" ? [["private"]] : [];
      const events = client.take().filter(([event]) => event !== "noted");
      assert.deepEqual(events, [["several"], ["binary", ...BINARY_ARGS], ...mine, ["joined"], ["marker"]], name);
    }
  });
});
