// Counterpart of `conformance_server` on Node's implementation: reference for the raw cases.
import { createServer } from "node:http";
import { Server as EngineServer } from "engine.io";
import { Server as SocketServer } from "socket.io";
import { WebSocketServer } from "ws";
import { conformanceOptions } from "./options.js";

const options = conformanceOptions();
const http = createServer((_request, response) => response.writeHead(404).end());

const common = {
  pingInterval: options.pingInterval,
  pingTimeout: options.pingTimeout,
  upgradeTimeout: options.upgradeTimeout,
  maxHttpBufferSize: options.maxPayload,
  // Three servers share one listener, so none may close an upgrade for another.
  destroyUpgrade: false,
  ...(options.cors && { cors: { origin: options.cors } }),
  ...(options.cookie && { cookie: { name: options.cookie, path: "/", httpOnly: true, sameSite: "lax" } }),
};

const engine = new EngineServer(common);
engine.attach(http, { path: "/engine.io/", destroyUpgrade: false });
engine.on("connection", (socket) => socket.on("message", (message) => socket.send(message)));

const io = new SocketServer(http, { ...common, connectTimeout: options.connectTimeout, serveClient: false });
for (const name of ["/", "/custom"]) {
  io.of(name).on("connection", (socket) => {
    socket.emit("auth", socket.handshake.auth);
    // Node passes the ack function as an additional argument.
    socket.on("message", (...args) => socket.emit("message-back", ...args.filter((arg) => typeof arg !== "function")));
    socket.on("message-with-ack", (...args) => args.pop()(...args));
    socket.on("emit-with-ack", (...args) => {
      socket.emit("emit-with-ack", ...args, (...answer) => socket.emit("emit-with-ack", ...answer));
    });
  });
}

const echo = new WebSocketServer({ noServer: true, maxPayload: options.maxPayload });
echo.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});
http.on("upgrade", (request, stream, head) => {
  if (request.url.split("?")[0] !== "/echo") return;
  echo.handleUpgrade(request, stream, head, (socket) => echo.emit("connection", socket));
});

http.listen(options.port, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
