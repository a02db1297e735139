// Counterpart of `cluster_server` on Node's implementation: `cluster.js --redis PORT --library ioredis --name NAME`;
// several ports, separated by commas, are those of a Redis Cluster.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Cluster, Redis } from "ioredis";
import { createClient, createCluster } from "redis";
import { Server } from "socket.io";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    redis: { type: "string" },
    library: { type: "string" },
    name: { type: "string" },
    prefix: { type: "string", default: "socket.io" },
    mode: { type: "string", default: "classic" },
    "own-response-channels": { type: "boolean", default: false },
  },
});

const ports = values.redis.split(",").map(Number);
const isCluster = ports.length > 1;

/** Clients as the documentation of the adapter and of each library sets them up */
async function clients() {
  if (values.library === "ioredis") {
    const nodes = ports.map((port) => ({ host: "127.0.0.1", port }));
    if (isCluster) return [new Cluster(nodes), new Cluster(nodes, { shardedSubscribers: true })];
    return [new Redis(ports[0]), new Redis(ports[0])];
  }
  const urls = ports.map((port) => ({ url: `redis://127.0.0.1:${port}` }));
  const first = isCluster ? createCluster({ rootNodes: urls }) : createClient(urls[0]);
  const both = [first, first.duplicate()];
  await Promise.all(both.map((client) => client.connect()));
  return both;
}

// A Redis that is away is no failure of the test; an exception in a listener ends the process.
const both = await clients();
both.forEach((client) => client.on("error", () => {}));

const http = createServer();
const ADAPTERS = {
  classic: () =>
    createAdapter(...both, { key: values.prefix, publishOnSpecificResponseChannel: values["own-response-channels"] }),
  streams: () => createStreamsAdapter(both[0], { channelPrefix: values.prefix, blockTimeInMs: 200 }),
  "streams-sharded": () =>
    createStreamsAdapter(both[0], { channelPrefix: values.prefix, blockTimeInMs: 200, useShardedPubSub: true }),
};
for (const subscriptionMode of ["static", "dynamic", "dynamic-private"]) {
  ADAPTERS[`sharded-${subscriptionMode}`] = () => createShardedAdapter(...both, { channelPrefix: values.prefix, subscriptionMode });
}
const adapter = ADAPTERS[values.mode]();
const io = new Server(http, { adapter, serveClient: false, connectTimeout: 60_000 });

function application(nsp) {
  nsp.on("connection", (socket) => {
    socket.data = { server: values.name };
    socket.join(["all", 7, "a#b", "xxxxxxxxxxxxxxxxxxxx"]);
    socket.on("do", async (command, event, ...args) => {
      const ack = args.pop();
      ack(await perform(nsp, socket, command, event, args));
    });
  });
  nsp.on("note", (...args) => nsp.local.emit("noted", ...args));
  nsp.on("load", (...args) => args.pop()({ server: values.name, args }));
}

/** To Node `7` and `"7"` are two rooms; an application of this kind uses numbers for all such names */
const roomsOf = (names = []) => names.map((name) => (/^\d+$/.test(name) ? Number(name) : name));

function target(nsp, socket, { own, volatile, compress = true, timeout = 5000, ...command }) {
  const [to, except] = [roomsOf(command.to), roomsOf(command.except)];
  let target = (own ? socket.broadcast : nsp.except([])).timeout(timeout).compress(compress);
  if (to.length > 0) target = target.to(to);
  if (except.length > 0) target = target.except(except);
  return volatile ? target.volatile : target;
}

async function perform(nsp, socket, command, event, args) {
  const { verb, close = false, id } = command;
  const rooms = roomsOf(command.rooms);
  const chosen = target(nsp, socket, command);
  const remote = async (act) => {
    const found = (await nsp.in(id).fetchSockets()).find((found) => found.id === id);
    return found ? ((await act(found)) ?? null) : "unknown";
  };
  switch (verb) {
    case "emit":
      chosen.emit(event, ...args);
      return "accepted";
    case "ask": {
      const answers = await chosen.emitWithAck(event, ...args).catch((error) => error.responses);
      for (const answer of answers) socket.emit("answer", answer);
      return true;
    }
    case "join":
      return chosen.socketsJoin(rooms) ?? null;
    case "leave":
      return chosen.socketsLeave(rooms) ?? null;
    case "disconnect":
      return chosen.disconnectSockets(close) ?? null;
    case "fetch":
      return (await chosen.fetchSockets()).map((found) => {
        const own = [...found.rooms].map(String).sort();
        return { id: found.id, rooms: own, data: found.data, address: found.handshake.address };
      });
    case "rooms":
      return [...socket.rooms].map(String).sort();
    case "serverEmit":
      return nsp.serverSideEmit(event, ...args) && null;
    case "serverAsk":
      return nsp.serverSideEmitWithAck(event, ...args).catch((error) => error.message);
    case "remoteEmit":
      return remote((found) => void found.emit(event, ...args));
    case "remoteAsk":
      return remote(async (found) => {
        const answer = await found.timeout(5000).emitWithAck(event, ...args);
        socket.emit("answer", answer);
      });
    case "remoteJoin":
      return remote((found) => found.join(rooms));
    case "remoteLeave":
      return remote((found) => rooms.forEach((room) => found.leave(room)));
    case "remoteDisconnect":
      return remote((found) => void found.disconnect(close));
    default:
      return `unknown command ${verb}`;
  }
}

for (const name of ["/", "/chat", "/a*?c"]) application(io.of(name));
// Events for servers reach the child, so its listeners are its own.
io.on("new_namespace", (nsp) => nsp.name.startsWith("/dynamic-") && application(nsp));
io.of(/^\/dynamic-\d+$/);

http.listen(Number(values.port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
