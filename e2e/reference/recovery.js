// Counterpart of `recovery_server --redis` on Node's implementation: `recovery.js --redis PORT`.
//
// Serves Socket.IO at `/socket.io/`, and Socket.IO in MessagePack at `/msgpack/`.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import msgpack from "socket.io-msgpack-parser";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    redis: { type: "string" },
    away: { type: "string", default: "120000" },
    "ping-interval": { type: "string", default: "25000" },
    "ping-timeout": { type: "string", default: "20000" },
  },
});

const http = createServer();
// Each server has a node in the cluster. Events and sessions are the same for both formats.
for (const options of [{ path: "/socket.io/" }, { path: "/msgpack/", parser: msgpack }]) {
  // A Redis that is away is no failure of the test.
  const redis = new Redis(Number(values.redis), { retryStrategy: () => 100, maxRetriesPerRequest: null });
  redis.on("error", () => {});
  const io = new Server(http, {
    ...options,
    // The smallest length of any writer applies to the stream.
    adapter: createAdapter(redis, { maxLen: 1_000_000, blockTimeInMs: 200 }),
    serveClient: false,
    destroyUpgrade: false,
    pingInterval: Number(values["ping-interval"]),
    pingTimeout: Number(values["ping-timeout"]),
    connectionStateRecovery: { maxDisconnectionDuration: Number(values.away) },
  });
  io.on("connection", (socket) => {
    socket.on("join", (room, ack) => {
      socket.join(room);
      ack(true);
    });
  });
}

http.listen(Number(values.port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
