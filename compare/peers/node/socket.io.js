// `node socket.io.js PORT MODE [--tuned] [--msgpack] [--ping-interval SECONDS]`: Socket.IO on Node's own HTTP server.
//
// `--msgpack` uses socket.io-msgpack-parser.
// `--tuned` drops the reference to a client's first HTTP request, which the documentation recommends to save memory.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";
import * as msgpack from "socket.io-msgpack-parser";

const { values, positionals } = parseArgs({
  options: { tuned: { type: "boolean" }, msgpack: { type: "boolean" }, "ping-interval": { type: "string", default: "25" } },
  allowPositionals: true,
});
const [port, mode] = positionals;
const http = createServer();
const io = new Server(http, {
  pingInterval: 1000 * Number(values["ping-interval"]),
  ...(values.msgpack && { parser: msgpack.default }),
});

const hear = {
  broadcast: (socket) => socket.on("msg", (text) => io.emit("msg", text)),
  echo: (socket) => socket.on("echo", (text) => socket.emit("echo", text)),
  room: (socket) => {
    socket.on("join", (room) => socket.join(room));
    socket.on("room", (room, text) => io.to(room).emit("msg", text));
  },
}[mode];

if (!hear) {
  console.error("usage: node socket.io.js PORT broadcast|echo|room [--tuned] [--msgpack] [--ping-interval SECONDS]");
  process.exit(2);
}

if (values.tuned) io.engine.on("connection", (socket) => (socket.request = null));
io.on("connection", hear);
http.listen(Number(port), "127.0.0.1");
