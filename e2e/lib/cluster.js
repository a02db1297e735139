// Clients and servers of a cluster of Roomcast and Node servers.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import { PATIENCE } from "./patience.js";

/** Servers by name, with their kind */
export const SERVERS = { "roomcast 1": "roomcast", "roomcast 2": "roomcast", ioredis: "ioredis", redis: "redis" };
export const NAMES = Object.keys(SERVERS);
/** Rooms that each server joins its sockets to */
export const ROOMS = ["7", "a#b", "all", "xxxxxxxxxxxxxxxxxxxx"];

/** Waits until a condition holds; resolves to the time that it took, in milliseconds */
export async function until(condition, what) {
  const begin = Date.now();
  while (!(await condition())) {
    assert(Date.now() - begin < PATIENCE, `not in time: ${typeof what === "function" ? what() : what}`);
    await sleep(2);
  }
  return Date.now() - begin;
}

/** Waits until a number of servers subscribes to the counted channel of a namespace */
export async function counted(commands, namespace, number, adapter = "classic") {
  const channel = adapter === "classic" ? `socket.io-request#${namespace}#` : `socket.io#${namespace}#`;
  const count = adapter.includes("sharded") ? "SHARDNUMSUB" : "NUMSUB";
  const subscribers = async () => Number((await commands.pubsub(count, channel))[1]);
  await until(async () => (await subscribers()) === number, `${number} subscribers of ${namespace}`);
}

/** A client with the events that it received */
export class Client {
  constructor(socket) {
    this.socket = socket;
    this.events = [];
    socket.onAny((name, ...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
      this.events.push([name, ...args]);
      ack?.(...(this.answer ?? ["unexpected"]));
    });
  }

  /** Performs a command on the client's server; resolves to its result */
  run(verb, more = {}, event = "event", ...args) {
    return this.socket.timeout(PATIENCE).emitWithAck("do", { verb, ...more }, event, ...args);
  }

  async has(name, number = 1) {
    const found = () => this.events.filter(([known]) => known === name).length >= number;
    await until(found, () => `${name} among ${JSON.stringify(this.events)}`);
  }

  take() {
    return this.events.splice(0);
  }
}

export async function connect(server, namespace) {
  // By a manager, since a URL would encode the name.
  const manager = new Manager(server.url, { transports: ["websocket"], forceNew: true });
  const client = new Client(manager.socket(namespace));
  await until(() => client.socket.connected, `connection to ${namespace}`);
  // The handler of the connection has run.
  assert.equal((await client.run("rooms")).length, 1 + ROOMS.length);
  return client;
}
