// `node ws.js PORT MODE`: ws as in its README; a broadcast loops over all clients.

import { WebSocketServer, WebSocket } from "ws";

const [port, mode] = process.argv.slice(2);
const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), perMessageDeflate: false });

const send = (clients, data, isBinary) => {
  for (const client of clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
  }
};

const join = (socket, room) => {
  const members = rooms.get(room);
  if (members) members.add(socket);
  else rooms.set(room, new Set([socket]));
  socket.on("close", () => rooms.get(room)?.delete(socket));
};

const hear = {
  broadcast: (socket, data, isBinary) => send(server.clients, data, isBinary),
  echo: (socket, data, isBinary) => socket.send(data, { binary: isBinary }),
  room: (socket, data) => {
    const text = data.toString();
    if (text.startsWith("J")) return join(socket, text.slice(1));
    const space = text.indexOf(" ");
    const members = rooms.get(text.slice(1, space));
    if (members) send(members, Buffer.from(text.slice(space + 1)), false);
  },
}[mode];

if (!hear) {
  console.error("usage: node ws.js PORT broadcast|echo|room");
  process.exit(2);
}

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => hear(socket, data, isBinary));
});
