// Counterpart of `roomcast serve` on Node's implementation, with the same demo page.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { Server as SocketServer } from "socket.io";
import { WebSocketServer } from "ws";
import { demoOptions } from "./options.js";

const PAGE = new URL("../../crates/cli/demo/", import.meta.url);
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8" };

/** All connected clients, on any transport: `{ id, kind, transport, rooms, emit }` */
const clients = new Map();

const ABOUT = JSON.stringify({ version: "4.8.4", commit: "unknown", client: false });

const http = createServer(async (request, response) => {
  if (request.url === "/about.json") return response.writeHead(200, { "content-type": "application/json" }).end(ABOUT);
  const name = request.url === "/" ? "index.html" : request.url.slice(1);
  const type = /^[a-z]+\.(html|js|css)$/.exec(name)?.[1];
  const content = type && (await readFile(new URL(name, PAGE)).catch(() => null));
  if (!content) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": TYPES[type] }).end(content);
});

const io = new SocketServer(http, { serveClient: false, destroyUpgrade: false });
io.on("connection", (socket) => {
  const client = enter({
    id: socket.id,
    kind: "socket.io",
    transport: () => socket.conn.transport.name,
    emit: (event, detail) => socket.emit(event, detail),
  });
  socket.onAny((event, ...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const outcome = perform(client, event, args);
    if (outcome !== undefined) answer?.(outcome);
  });
  socket.on("disconnect", () => gone(client));
});

const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => offered.has("roomcast.json") && "roomcast.json",
});
http.on("upgrade", (request, stream, head) => {
  if (request.url.split("?")[0] !== "/ws") return;
  sockets.handleUpgrade(request, stream, head, (socket) => {
    const client = socket.protocol ? enterJson(socket) : enterPlain(socket);
    socket.on("error", () => {});
    socket.on("close", () => gone(client));
  });
});

const { host, port } = demoOptions();
http.listen(port, host, () => console.log(`roomcast demo on http://${host}:${http.address().port}`));

function enter(client) {
  client.rooms = new Set();
  clients.set(client.id, client);
  client.emit("hello", { id: client.id, kind: client.kind, transport: client.transport() });
  return client;
}

function gone(client) {
  clients.delete(client.id);
  for (const room of client.rooms) tell(inRoom(room), "left", { room, id: client.id });
}

function enterPlain(socket) {
  const client = enter({
    id: randomUUID(),
    kind: "plain",
    transport: () => "websocket",
    emit: (event, detail) => socket.send(JSON.stringify([event, detail])),
  });
  socket.on("message", (data) => perform(client, ...slashCommand(data.toString())));
  return client;
}

function enterJson(socket) {
  const id = randomUUID();
  const send = (...frame) => socket.send(JSON.stringify(frame));
  send({ sid: id });
  const client = enter({ id, kind: "roomcast.json", transport: () => "websocket", emit: send });
  socket.on("message", (data) => {
    const frame = parseFrame(data);
    if (!frame) return socket.close(1008, "not a roomcast.json frame");
    const { ack } = typeof frame[0] === "object" ? frame.shift() : {};
    const outcome = perform(client, frame[0], frame.slice(1));
    if (ack !== undefined && outcome !== undefined) send({ re: ack }, outcome);
  });
  return client;
}

/** A list whose first element is the event's name or a header, or null */
function parseFrame(data) {
  try {
    const frame = JSON.parse(data);
    return Array.isArray(frame) && frame[0] && ["string", "object"].includes(typeof frame[0]) ? frame : null;
  } catch {
    return null;
  }
}

/** Handles a client's event; returns the acknowledgement if requested */
function perform(client, event, args) {
  if (event === "echo") return client.emit("echo", args[0]);
  if (event === "msg") return tell([...clients.values()], "msg", args[0]);
  if (event === "join") return join(client, args[0]);
  if (event === "leave") return leave(client, args[0]);
  if (event === "everyone") return cast(client, event, undefined, ...args);
  if (event === "others") return cast(client, event, undefined, ...args);
  if (event === "room") return cast(client, event, ...args);
  if (event === "room-others") return cast(client, event, ...args);
  return undefined;
}

function join(client, room) {
  client.rooms.add(room);
  const members = inRoom(room);
  tell(members.filter((member) => member !== client), "joined", { room, id: client.id });
  const welcome = { room, id: client.id, members: members.map(({ id }) => id) };
  client.emit("welcome", welcome);
  return welcome;
}

function leave(client, room) {
  client.rooms.delete(room);
  tell(inRoom(room), "left", { room, id: client.id });
  client.emit("bye", { room, id: client.id });
  return { room };
}

function cast(client, event, room, text, tag) {
  const addressed = room === undefined ? [...clients.values()] : inRoom(room);
  const reached = event.endsWith("others") ? addressed.filter((member) => member !== client) : addressed;
  tell(reached, event, { from: client.id, room, text, tag, via: client.transport() });
  return { queued: reached.length, dropped: 0 };
}

function tell(members, event, detail) {
  members.forEach((member) => member.emit(event, detail));
}

function inRoom(room) {
  return [...clients.values()].filter(({ rooms }) => rooms.has(room));
}

/** Parses slash commands such as `/room red hi #tag` to an event and its arguments; a last word with # is the tag */
function slashCommand(line) {
  const [, text, tag] = /^(.*?)(?:\s#(\S+))?$/s.exec(line);
  const [, command, rest] = /^\/(join|leave|others|room|room-others)\s(.*)$/s.exec(text) ?? [];
  if (!command) return ["everyone", [text, tag]];
  if (!command.startsWith("room")) return [command, [rest, tag]];
  const space = rest.indexOf(" ");
  return [command, [rest.slice(0, space), rest.slice(space + 1), tag]];
}
