// `node cluster.js PORT [--adapter none|classic|sharded|streams|streams-recovery] [--redis URL]`: Socket.IO in a cluster on Redis.
//
// Same events as Roomcast's example cluster_fanout: `join` (room), `change` (number), which sets the socket's data,
// `burst` (room, first, count, bytes), which emits numbered events `msg` to the room, and `spread` (rooms, first, count,
// bytes), which emits each to one of the rooms.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const { values, positionals } = parseArgs({
  options: { adapter: { type: "string", default: "none" }, redis: { type: "string", default: "redis://127.0.0.1:6379" } },
  allowPositionals: true,
});
const [port] = positionals;

async function connect() {
  const client = createClient({ url: values.redis });
  await client.connect();
  return client;
}

const adapter = await {
  none: async () => undefined,
  classic: async () => createAdapter(await connect(), await connect()),
  sharded: async () => createShardedAdapter(await connect(), await connect()),
  streams: async () => createStreamsAdapter(await connect()),
  "streams-recovery": async () => createStreamsAdapter(await connect()),
}[values.adapter]?.();

const http = createServer();
const recovery = values.adapter.endsWith("-recovery") && { connectionStateRecovery: {} };
const io = new Server(http, adapter && { adapter, ...recovery });
io.on("connection", (socket) => {
  socket.on("join", (room) => socket.join(room));
  socket.on("change", (number) => (socket.data = number));
  const emit = (roomOf, first, count, bytes) => {
    const filler = "x".repeat(Math.max(0, bytes - DIGITS));
    for (let number = first; number < first + count; number++) {
      io.to(roomOf(number)).emit("msg", String(number).padStart(DIGITS, "0") + filler);
    }
  };
  socket.on("burst", (room, ...numbers) => emit(() => room, ...numbers));
  socket.on("spread", (rooms, ...numbers) => emit((number) => `room-${number % rooms}`, ...numbers));
});
http.listen(Number(port), "127.0.0.1");

const DIGITS = 10;
