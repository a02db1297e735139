// Faults on servers, Redis and connections, while clients that recover on any server receive numbered messages.
//
// The short form runs with the other tests. `ROOMCAST_FAULTS_SECONDS=600 ROOMCAST_FAULTS_CLIENTS=300` is the whole run;
// `ROOMCAST_FAULTS_SEED` selects another sequence of faults.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { FaultRun, Node } from "../lib/fault_run.js";
import { pick } from "../lib/random.js";
import { startRedis } from "../lib/redis.js";
import { lastingPort, startRecovery } from "../lib/server.js";
import { KINDS } from "../lib/wanderer.js";

const SEED = Number(process.env.ROOMCAST_FAULTS_SEED ?? 1);
const SECONDS = Number(process.env.ROOMCAST_FAULTS_SECONDS ?? 30);
const CLIENTS = Number(process.env.ROOMCAST_FAULTS_CLIENTS ?? 60);
const IS_LONG = SECONDS >= 120;

/** How the servers of the test differ: Node has no plain clients, does not tell when a message is in the stream, and replays it inexactly */
const ROLES = {
  roomcast: { name: "roomcast" },
  node: { name: "node", kinds: KINDS.filter((kind) => kind !== "JSON"), confirms: false, isExact: false },
};

/** Runs a cluster of these servers with faults, and checks what its clients have received; resolves to the run */
async function runFaults(context, servers) {
  process.env.RUST_LOG ??= "warn";
  const folder = await mkdtemp(join(tmpdir(), "roomcast-faults-"));
  // Redis writes each change to its file before it answers, so a killed Redis loses none.
  const redis = await startRedis(["--appendonly", "yes", "--appendfsync", "everysec", "--dir", folder]);
  const nodes = [];
  const commands = new Redis(redis.port, { retryStrategy: () => 100, maxRetriesPerRequest: null });
  commands.on("error", () => {});
  const run = new FaultRun({
    seed: SEED,
    clients: CLIENTS,
    nodes,
    faults: {
      "a server is killed": (random) => pick(nodes, random).kill(500 + 1500 * random()),
      "a server is frozen": (random) => pick(nodes, random).freeze(500 + 6000 * random()),
      "Redis is killed": async (random) => {
        await redis.kill();
        await sleep(200 + 2000 * random());
        await redis.restart();
      },
      // Longer than a sender waits for a confirmation.
      ...(IS_LONG && {
        "Redis is frozen for long": async () => {
          redis.freeze();
          await sleep(7000);
          redis.thaw();
        },
      }),
      "servers lose their connections to Redis": async () => {
        await commands.client("KILL", "TYPE", "normal", "SKIPME", "yes");
        await commands.client("KILL", "TYPE", "pubsub");
      },
      "clients lose their connections": () => run.cutClients(),
      ...(servers.includes("node") && { "clients of Node lose their connections": () => run.cutClients("node") }),
    },
    frequent: ["a server is killed", "a server is frozen"],
    log: (line) => context.diagnostic(line),
  });
  const flags = { "ping-interval": 1000, "ping-timeout": 1000 };
  try {
    for (const on of servers) {
      nodes.push(new Node(await lastingPort(), (port) => startRecovery(on, redis.port, { ...flags, port }), ROLES[on]));
      await nodes.at(-1).start();
    }
    run.check(await run.run(SECONDS));
    // In ten minutes, twenty of each.
    const isEnough = (name) => run.done[name] >= Math.floor(SECONDS / 30);
    assert(isEnough("a server is killed") && isEnough("a server is frozen"), JSON.stringify(run.done));
    assert(run.done["Redis is killed"] > 0);
    // Refusals are reported to their senders, as the ledger checks.
    if (IS_LONG) assert(run.ledger.counts().refused > 0);
    return run;
  } finally {
    commands.disconnect();
    for (const node of nodes) await node.stop();
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

test("nothing confirmed is lost, doubled or out of order while servers and Redis fail", async (context) => {
  const run = await runFaults(context, ["roomcast", "roomcast", "roomcast"]);
  const { recovered, anew } = run.returns();
  assert(recovered > anew);
});

test("the same with a server of Node, and clients that move to it and back", async (context) => {
  const run = await runFaults(context, ["roomcast", "roomcast", "node"]);
  for (const [from, to] of [["roomcast", "roomcast"], ["roomcast", "node"], ["node", "roomcast"]]) {
    const returns = run.returns(from, to);
    context.diagnostic(`from ${from} to ${to}: ${JSON.stringify(returns)}`);
    assert(returns.recovered > 0);
    // A server of Node that is killed or frozen has not stored the sessions of its clients.
    if (from === "roomcast") assert(returns.recovered > returns.anew);
  }
});
