// Node's servers with each of their Redis adapters, for clusters with a node of Roomcast.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Server } from "socket.io";
import { Manager } from "socket.io-client";
import { PATIENCE } from "./patience.js";

/** Clients of Redis: each function resolves to two of them */
export const LIBRARIES = {
  ioredis: async (port) => {
    const clients = [new Redis(port), new Redis(port)];
    return { clients, close: () => clients.forEach((client) => client.disconnect()) };
  },
  redis: async (port) => {
    const first = createClient({ url: `redis://127.0.0.1:${port}` });
    const clients = [first, first.duplicate()];
    await Promise.all(clients.map((client) => client.connect()));
    return { clients, close: () => Promise.all(clients.map((client) => client.close())) };
  },
};

/** Adapters of Node, and the options with which the node of Roomcast joins them */
export const ADAPTERS = {
  classic: { make: (publisher, subscriber) => createAdapter(publisher, subscriber), ours: { adapter: "classic" } },
  ...Object.fromEntries(
    ["static", "dynamic", "dynamic-private"].map((mode) => [
      `sharded ${mode}`,
      {
        make: (publisher, subscriber) => createShardedAdapter(publisher, subscriber, { subscriptionMode: mode }),
        ours: { adapter: "sharded", mode },
      },
    ]),
  ),
  ...Object.fromEntries(
    [["streams", false], ["streams, sharded pub/sub", true]].map(([name, useShardedPubSub]) => [
      name,
      {
        make: (publisher, _, more) => createStreamsAdapter(publisher, { useShardedPubSub, blockTimeInMs: 200, ...more }),
        ours: { adapter: "streams", sharded: useShardedPubSub },
        readers: 1,
      },
    ]),
  ),
};

/** A server with one client, which is in several rooms */
export async function startNode(port, { library = "ioredis", adapter, namespace, options = {}, adapterOptions = {} }) {
  const { clients, close: closeClients } = await LIBRARIES[library](port);
  const http = createServer().listen(0, "127.0.0.1");
  await once(http, "listening");
  const server = new Server(http, { adapter: ADAPTERS[adapter].make(...clients, adapterOptions), connectTimeout: 60_000, ...options });
  const nsp = server.of(namespace);
  nsp.on("connection", (socket) => {
    socket.data = { name: "node's" };
    socket.join(["all", 7, "a#b", "x".repeat(20)]);
  });
  // By a manager, since a URL would encode the name.
  const client = new Manager(`http://127.0.0.1:${http.address().port}`, { transports: ["websocket"] }).socket(namespace);
  const close = async () => {
    client.io._close();
    await server.close();
    await closeClients();
  };
  return { server, nsp, client, clients, close };
}

export async function until(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!(await condition())) {
    assert(Date.now() < end, `no ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
