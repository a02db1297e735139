// `node socket.io.js PORT MODE [--tuned]`: Socket.IO on Node's own HTTP server.
//
// `--tuned` drops the reference to a client's first HTTP request, which the documentation recommends to save memory.

import { createServer } from "node:http";
import { Server } from "socket.io";

const [port, mode, tuned] = process.argv.slice(2);
const http = createServer();
const io = new Server(http);

const hear = {
  broadcast: (socket) => socket.on("msg", (text) => io.emit("msg", text)),
  echo: (socket) => socket.on("echo", (text) => socket.emit("echo", text)),
  room: (socket) => {
    socket.on("join", (room) => socket.join(room));
    socket.on("room", (room, text) => io.to(room).emit("msg", text));
  },
}[mode];

if (!hear || (tuned !== undefined && tuned !== "--tuned")) {
  console.error("usage: node socket.io.js PORT broadcast|echo|room [--tuned]");
  process.exit(2);
}

if (tuned) io.engine.on("connection", (socket) => (socket.request = null));
io.on("connection", hear);
http.listen(Number(port), "127.0.0.1");
