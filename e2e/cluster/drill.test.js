// The move from Node to Roomcast and back, under traffic, with every message accounted for.
//
// `ROOMCAST_DRILL_CLIENTS=n` and `ROOMCAST_DRILL_SECONDS=n` (for each stage) make it longer.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { connect, counted, until } from "../lib/cluster.js";
import { Ledger } from "../lib/ledger.js";
import { startRedis } from "../lib/redis.js";
import { startClusterServer } from "../lib/server.js";

const CLIENTS = Number(process.env.ROOMCAST_DRILL_CLIENTS ?? 12);
const STAGE = 1000 * Number(process.env.ROOMCAST_DRILL_SECONDS ?? 1);
const GROUP = Math.ceil(CLIENTS / 4); // clients that move at the same time
const INTERVAL = 25; // milliseconds between two messages of a client
const SETTLE = 250; // milliseconds in which a message reaches all servers
const NODE = [["node 1", "ioredis"], ["node 2", "redis"]];
const ROOMCAST = [["roomcast 1", "roomcast"], ["roomcast 2", "roomcast"]];

let redis;
let commands;
const servers = new Map();

before(async () => {
  redis = await startRedis();
  commands = new Redis(redis.port);
});

after(async () => {
  for (const server of servers.values()) await server.stop();
  commands?.disconnect();
  await redis?.stop();
});

async function add(list) {
  for (const [name, kind] of list) {
    servers.set(name, await startClusterServer(kind, redis.port, { name: name.replace(" ", "-") }));
  }
  await counted(commands, "/", servers.size);
}

async function remove(list) {
  for (const [name] of list) {
    assert.equal(await servers.get(name).stop(), "SIGTERM", `${name} ended by itself`);
    servers.delete(name);
  }
  await counted(commands, "/", servers.size);
}

/** A client that sends numbered messages to the room, and receives all messages */
class Traveller {
  constructor(name, ledger) {
    this.name = name;
    this.ledger = ledger;
    this.stopped = false;
  }

  async start(server) {
    this.account = this.ledger.recipient(this.name);
    this.client = await this.#open(server);
  }

  /** Begins to send */
  begin() {
    this.sending = this.#send();
  }

  /**
   * Moves to another server: the new connection is open before the old one is closed, so nothing may be missed.
   *
   * Messages over different servers have no order, so there is a pause between the last and the first.
   */
  async move(server) {
    const [old, next] = [this.client, await this.#open(server)];
    let resume;
    this.pause = new Promise((resolve) => (resume = resolve));
    await this.flight;
    await sleep(SETTLE);
    this.client = next;
    resume();
    await sleep(SETTLE);
    old.socket.disconnect();
  }

  async stop() {
    this.stopped = true;
    await this.sending;
  }

  async #open(server) {
    const client = await connect(server, "/");
    const received = this.account.connection();
    client.socket.on("message", received);
    return client;
  }

  async #send() {
    while (!this.stopped) {
      await this.pause;
      const number = this.ledger.send(this.name);
      this.flight = this.client.run("emit", { to: ["all"] }, "message", this.name, number);
      await this.flight;
      await sleep(INTERVAL);
    }
  }
}

test("the ledger finds planted faults", () => {
  const run = (...received) => {
    const ledger = new Ledger();
    const note = ledger.recipient("client").connection();
    for (let number = 1; number <= 3; number++) ledger.send("a");
    received.forEach((number) => note("a", number));
    return ledger.faults();
  };
  assert.deepEqual(run(1, 2, 3), []);
  assert.deepEqual(run(1, 3), ["client: 2 of a is missing"]);
  assert.deepEqual(run(1, 2, 2, 3), ["client, connection 1: 2 of a twice"]);
  assert.deepEqual(run(1, 3, 2), ["client, connection 1: 2 of a after 3"]);
});

test("clients move from Node to Roomcast and back without a loss", async (context) => {
  const ledger = new Ledger();
  const travellers = Array.from({ length: CLIENTS }, (_, number) => new Traveller(`client ${number}`, ledger));
  await add(NODE);
  const place = (list, number) => servers.get(list[number % list.length][0]);
  // A recipient counts from its first connection on, so all are connected before the first message.
  for (const [number, traveller] of travellers.entries()) await traveller.start(place(NODE, number));
  travellers.forEach((traveller) => traveller.begin());
  const shift = async (list) => {
    for (let first = 0; first < CLIENTS; first += GROUP) {
      const group = travellers.slice(first, first + GROUP);
      await Promise.all(group.map((traveller, number) => traveller.move(place(list, first + number))));
    }
  };
  for (const [from, to] of [[NODE, ROOMCAST], [ROOMCAST, NODE]]) {
    await sleep(STAGE);
    await add(to);
    await sleep(STAGE);
    await shift(to);
    await remove(from);
    await sleep(STAGE);
  }
  await Promise.all(travellers.map((traveller) => traveller.stop()));
  await until(() => ledger.faults().length === 0, () => ledger.faults().slice(0, 20).join("\n"));
  await sleep(200); // for doubles
  assert.deepEqual(ledger.faults(), []);
  travellers.forEach(({ client }) => client.socket.disconnect());
  context.diagnostic(`${ledger.total()} messages reached each of ${CLIENTS} clients`);
  assert(ledger.total() > 10 * CLIENTS);
});
