// Counterpart of `differential_server` on Node's implementation: reference of the differential test.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Server as EngineServer } from "engine.io";
import { Server as SocketServer } from "socket.io";
import msgpack from "socket.io-msgpack-parser";

const { values: flags } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "ping-interval": { type: "string", default: "25000" },
    "ping-timeout": { type: "string", default: "20000" },
    "upgrade-timeout": { type: "string", default: "10000" },
    "connect-timeout": { type: "string", default: "45000" },
    "max-payload": { type: "string", default: "1000000" },
    cors: { type: "string" },
    cookie: { type: "string" },
    recovery: { type: "boolean" },
    transports: { type: "string" },
    "no-upgrades": { type: "boolean" },
    "compress-from": { type: "string" },
    "client-files": { type: "boolean" },
    "tell-refusals": { type: "boolean" },
    "clean-up": { type: "boolean" },
  },
});

const common = {
  pingInterval: Number(flags["ping-interval"]),
  pingTimeout: Number(flags["ping-timeout"]),
  upgradeTimeout: Number(flags["upgrade-timeout"]),
  maxHttpBufferSize: Number(flags["max-payload"]),
  destroyUpgrade: false,
  ...(flags.cors && { cors: { origin: flags.cors, credentials: flags.cors !== "*" } }),
  ...(flags.transports && { transports: flags.transports.split(",") }),
  ...(flags["no-upgrades"] && { allowUpgrades: false }),
  ...(flags["compress-from"] && { httpCompression: { threshold: Number(flags["compress-from"]) } }),
  ...(flags.cookie && { cookie: { name: flags.cookie, path: "/", httpOnly: true, sameSite: "lax" } }),
};

const http = createServer((_request, response) => response.writeHead(404).end());
const engine = new EngineServer(common);
engine.attach(http, { path: "/engine.io/", destroyUpgrade: false });
engine.on("connection", (socket) => socket.on("message", (message) => socket.send(message)));

const io = new SocketServer(http, {
  ...common,
  allowRequest: (request, tell) => {
    const text = new URL(request.url, "http://localhost").searchParams.get("deny");
    tell(text, text === null);
  },
  ...(flags.recovery && { connectionStateRecovery: {} }),
  connectTimeout: Number(flags["connect-timeout"]),
  cleanupEmptyChildNamespaces: flags["clean-up"] === true,
  serveClient: flags["client-files"] === true,
});
// The same application for clients of another parser, at a separate path.
const packed = new SocketServer(http, { ...common, path: "/packed/", parser: msgpack, serveClient: false });

if (flags["tell-refusals"]) {
  io.engine.on("connection_error", ({ req, code, message, context }) => {
    const script = new URL(req.url, "http://localhost").searchParams.get("script") ?? "";
    io.of("/watch").emit("note", script, `refused: ${code} ${message} ${sorted(context)}`);
  });
}
io.on("from another server", () => io.of("/watch").emit("note", "", "heard from another server"));
io.of("/watch").on("connection", (socket) => {
  const engines = [io.engine, engine, packed.engine];
  socket.on("clients", (ack) => ack(engines.reduce((total, one) => total + one.clientsCount, 0)));
});
const parent = io.of(/^\/dynamic-\d+$/);
application(parent);
application(io.of((name, auth, tell) => tell(null, name.startsWith("/asked-") && auth?.token === "secret")));
for (const name of ["/", "/other", "/guarded", "/greeting"]) application(io.of(name));
for (const name of ["/", "/other", "/guarded"]) application(packed.of(name));
packed.of("/guarded").use(guard);
io.of("/greeting").on("connection", (socket) => socket.emit("auth", socket.handshake.auth));
io.of("/guarded").use(guard);
io.of("/guarded").use((socket, next) => {
  note(socket, "second middleware");
  next();
});

http.listen(Number(flags.port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});

/** Handlers of every namespace */
function application(namespace) {
  namespace.on("connection", (socket) => {
    note(socket, "connection");
    socket.on("disconnecting", (reason) => note(socket, `disconnecting: ${reason}; rooms ${rooms(socket)}`));
    socket.on("disconnect", (reason) => note(socket, `disconnect: ${reason}; rooms ${rooms(socket)}`));
    socket.on("sync", (ack) => ack());
    for (const name of ["echo", 1]) socket.on(name, (...args) => echo(socket, name, ...args));
    socket.on("wait", async (milliseconds, ack) => {
      await sleep(milliseconds);
      ack(milliseconds);
    });
    socket.on("unanswered", () => {});
    socket.on("twice", () => socket.emit("first handler"));
    socket.on("twice", () => socket.emit("second handler"));
    socket.once("once", (...args) => echo(socket, "once", ...args));
    socket.use((event, next) => {
      if (event[0] === "rewritten") event.splice(0, 1, "echo", "by a middleware");
      next();
    });
    socket.use(([name], next) => {
      if (name !== "forbidden") return next();
      note(socket, "middleware refuses an event");
      next(new Error("forbidden by a middleware"));
    });
    socket.on("forbidden", (...args) => echo(socket, "forbidden", ...args));
    socket.on("error", (error) => error?.message?.startsWith("forbidden") && note(socket, `error: ${error.message}`));
    socket.on("do", async (command, ...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      ack(await perform(socket, command, args));
    });
  });
}

function echo(socket, name, ...args) {
  if (typeof args.at(-1) === "function") args.pop()(...args);
  else socket.emit(name, ...args);
}

/** Accepts clients with the secret, and rejects others in several ways */
async function guard(socket, next) {
  const { auth } = socket.handshake;
  note(socket, `first middleware: ${JSON.stringify(auth)}`);
  if (auth.join) socket.join(auth.join);
  if (auth.wait) await sleep(auth.wait);
  if (auth.token === "secret") return next();
  const refusal = new Error(auth.message ?? "not authorized");
  if ("data" in auth) refusal.data = auth.data;
  next(refusal);
}

/** Performs a client's command and returns the result */
async function perform(socket, command, args) {
  switch (command.do) {
    case "emit":
      return emit(socket, command, args);
    case "join":
      for (const room of command.rooms) socket.join(room);
      return rooms(socket);
    case "leave":
      for (const room of command.rooms) socket.leave(room);
      return rooms(socket);
    case "rooms":
      return rooms(socket);
    case "sockets":
      return (await begin(socket, command).fetchSockets())
        .map((found) => ({
          auth: found.handshake.auth,
          data: Object.keys(found.data).length ? found.data : null,
          peer: found.handshake.query.peer,
          rooms: rooms(found),
        }))
        .sort((a, b) => (a.peer < b.peer ? -1 : 1));
    case "socketsJoin":
    case "socketsLeave":
      begin(socket, command)[command.do](command.rooms);
      return null;
    case "disconnectSockets":
      begin(socket, command).disconnectSockets(command.close);
      return null;
    case "setData":
      socket.data = args[1];
      return true;
    case "disconnect":
      socket.disconnect(command.close);
      return null;
    case "handshake":
      return handshake(socket);
    case "on":
      socket.on(args[0], (...given) => echo(socket, args[0], ...given));
      return null;
    case "off":
      socket.removeAllListeners(args[0]);
      return null;
    case "onAny":
      socket.onAny((name, ...given) => {
        const values = given.filter((value) => typeof value !== "function");
        note(socket, `any: ${name}, ${values.length} arguments`);
      });
      return null;
    case "offAny":
      socket.offAny();
      return null;
    case "onAnyOutgoing":
      socket.onAnyOutgoing((name, ...given) => note(socket, `outgoing: ${name}, ${given.length} arguments`));
      return null;
    case "offAnyOutgoing":
      socket.offAnyOutgoing();
      return null;
    case "serverSideEmit":
      try {
        io.serverSideEmit(...args);
        return null;
      } catch (error) {
        return { refused: error.message.endsWith("is a reserved event name") };
      }
    case "children":
      return [...io._nsps.keys()].filter((name) => name.startsWith("/dynamic-")).sort();
    case "closeAll":
      io.close();
      return null;
  }
}

/** Operators of an event: `volatile` and `local` are properties there, the others take a value */
function begin(socket, { at = "socket", by = [] }) {
  let emitter;
  if (at === "socket") emitter = socket;
  else if (at === "broadcast") emitter = socket.broadcast;
  else if (at === "parent") emitter = parent;
  else emitter = at === "io" ? io : io.of(at);
  for (const operator of by) {
    const [[name, value]] = typeof operator === "string" ? [[operator]] : Object.entries(operator);
    emitter = value === undefined ? emitter[name] : emitter[name](value);
  }
  return emitter;
}

function emit(socket, command, args) {
  const emitter = begin(socket, command);
  try {
    if (!command.ack) {
      emitter.emit(...args);
      return null;
    }
    const one = (command.at ?? "socket") === "socket";
    const limited = command.by?.some((operator) => operator.timeout);
    return new Promise((resolve) => {
      emitter.emit(...args, (...outcome) => {
        // A call without a timeout reports no error.
        const error = limited ? outcome.shift() : null;
        const answers = one ? outcome : outcome[0].map((answer) => answer ?? null);
        if (!one) answers.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
        resolve({ answers, error: error?.message ?? null });
      });
    });
  } catch (error) {
    return { refused: error.message.endsWith("is a reserved event name") };
  }
}

function handshake(socket) {
  const { query, headers, address, secure, url } = socket.handshake;
  const { script, sid, ...asked } = query;
  return {
    address,
    header: headers["x-told"] ?? null,
    path: url.split("?")[0],
    query: Object.fromEntries(Object.entries(asked).sort(([a], [b]) => (a < b ? -1 : 1))),
    secure,
    transport: socket.conn.transport.name,
  };
}

/** An object's JSON with its keys in order */
function sorted(object) {
  return JSON.stringify(Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** Rooms of a socket, its own as `own`, in an order independent of ids */
function rooms(socket) {
  return [...socket.rooms].map((room) => (room === socket.id ? "own" : room)).sort().join(" ");
}

/** Reports a socket event to the watchers */
function note(socket, text) {
  const { script = "", peer = "" } = socket.handshake.query;
  io.of("/watch").emit("note", script, `${peer} ${socket.nsp.name}: ${text}`);
}
