// A burst of messages through a stream: each arrives once and in order at all servers, or is reported as refused. One
// that is refused reaches only clients of the same server, at once.
//
// `npm run burst` is the long form; `ROOMCAST_BURST=n` sets the number of messages.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "socket.io-client";
import { WebSocket } from "ws";
import { PATIENCE } from "../lib/patience.js";
import { startRedis } from "../lib/redis.js";
import { startRecovery } from "../lib/server.js";

const MESSAGES = Number(process.env.ROOMCAST_BURST ?? 20_000);
const SENDERS = 2;
const ROOM = "burst";
/** Bytes for all messages to a client: the test is about the way to the servers */
const OUTBOX = 256 << 20;

let redis;
const servers = [];

before(async () => {
  redis = await startRedis();
  const flags = { "outbox-max": OUTBOX, "ping-timeout": PATIENCE };
  for (let number = 0; number < 3; number++) servers.push(await startRecovery("roomcast", redis.port, flags));
});

after(async () => {
  for (const server of servers) await server.stop();
  await redis?.stop();
});

/** Numbers that a client received from each sender, in their order */
class Received {
  total = 0;
  bySender = Array.from({ length: SENDERS }, () => []);

  add(sender, number) {
    this.total++;
    this.bySender[sender].push(number);
  }
}

/** A plain client in JSON mode, which has joined the room */
async function plain({ url }) {
  const ws = new WebSocket(new URL("/ws", url.replace("http", "ws")), "roomcast.json");
  const received = new Received();
  await new Promise((resolve, reject) => {
    ws.once("error", reject);
    ws.on("message", (data) => {
      const message = JSON.parse(data);
      const header = typeof message[0] === "object" ? message.shift() : {};
      if (header.sid) ws.send(JSON.stringify([{ ack: 1 }, "join", ROOM]));
      if (header.re === 1) resolve();
      if (message[0] === "told") received.add(message[1], message[2]);
    });
  });
  return { received, isOpen: () => ws.readyState === WebSocket.OPEN, close: () => ws.terminate() };
}

/** A client of Socket.IO, which has joined the room */
async function socketIo({ url }) {
  const socket = new Manager(url, { transports: ["websocket"], forceNew: true, reconnection: false }).socket("/");
  const received = new Received();
  socket.on("told", (sender, number) => received.add(sender, number));
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("connect_error", reject));
  await socket.timeout(PATIENCE).emitWithAck("join", ROOM);
  return { socket, received, isOpen: () => socket.connected, close: () => socket.disconnect() };
}

test("a burst arrives whole and in order, or is counted exactly", async (context) => {
  const connect = async (open, server) => ({ ...(await open(server)), server });
  const clients = await Promise.all(servers.flatMap((server) => [plain, socketIo].map((open) => connect(open, server))));
  context.after(() => clients.forEach((client) => client.close()));
  const senders = clients.filter(({ socket }) => socket).slice(0, SENDERS);
  const each = MESSAGES / SENDERS;
  const begin = Date.now();
  const bursts = senders.map(({ socket }, sender) => socket.timeout(6 * PATIENCE).emitWithAck("burst", ROOM, String(sender), each));
  const refused = await Promise.all(bursts);
  const total = MESSAGES - refused.flat().length;
  const isOwn = (client, sender) => client.server === senders[sender].server;
  const due = (client) => total + refused.flatMap((numbers, sender) => (isOwn(client, sender) ? numbers : [])).length;
  let last;
  for (let changed = Date.now(); clients.some((client) => client.received.total < due(client)); await sleep(50)) {
    const sum = clients.reduce((sum, { received }) => sum + received.total, 0);
    if (sum !== last) changed = Date.now();
    last = sum;
    assert(Date.now() - changed < PATIENCE, `${clients.map(({ received }) => received.total)} of ${total}`);
  }
  context.diagnostic(`${MESSAGES} messages, ${total} accepted; on all servers after ${Date.now() - begin} ms`);
  for (let sender = 0; sender < SENDERS; sender++) {
    const without = new Set(refused[sender]);
    const accepted = Array.from({ length: each }, (_, at) => at + 1).filter((number) => !without.has(number));
    for (const client of clients) {
      const received = client.received.bySender[sender];
      assert.deepEqual(received.filter((number) => !without.has(number)), accepted);
      const local = received.filter((number) => without.has(number));
      assert.deepEqual(local, isOwn(client, sender) ? refused[sender] : []);
    }
  }
  assert(clients.every((client) => client.isOpen()), "a client was disconnected");
});
