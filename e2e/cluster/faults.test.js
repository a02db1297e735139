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
import { pick, seeded } from "../lib/random.js";
import { startRedis } from "../lib/redis.js";
import { lastingPort, startExample } from "../lib/server.js";

const SEED = Number(process.env.ROOMCAST_FAULTS_SEED ?? 1);
const SECONDS = Number(process.env.ROOMCAST_FAULTS_SECONDS ?? 30);
const CLIENTS = Number(process.env.ROOMCAST_FAULTS_CLIENTS ?? 60);
const NODES = 3;

test("nothing confirmed is lost, doubled or out of order while servers and Redis fail", async (context) => {
  process.env.RUST_LOG ??= "warn";
  const folder = await mkdtemp(join(tmpdir(), "roomcast-faults-"));
  // Redis writes each change to its file before it answers, so a killed Redis loses none.
  const redis = await startRedis(["--appendonly", "yes", "--appendfsync", "everysec", "--dir", folder]);
  const nodes = [];
  const commands = new Redis(redis.port, { retryStrategy: () => 100, maxRetriesPerRequest: null });
  commands.on("error", () => {});
  const flags = { "ping-interval": 1000, "ping-timeout": 1000, threads: 2, redis: `redis://127.0.0.1:${redis.port}` };
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
      "servers lose their connections to Redis": async () => {
        await commands.client("KILL", "TYPE", "normal", "SKIPME", "yes");
        await commands.client("KILL", "TYPE", "pubsub");
      },
      "clients lose their connections": () => run.cutClients(),
    },
    log: (line) => context.diagnostic(line),
  });
  try {
    for (let number = 0; number < NODES; number++) {
      const node = new Node(await lastingPort(), (port) => startExample("recovery_server", { ...flags, port }));
      nodes.push(node);
      await node.start();
    }
    const isWhole = await run.run(SECONDS);
    context.diagnostic(JSON.stringify({ ...run.ledger.counts(), received: run.ledger.received(), ...run.returns() }));
    assert.deepEqual(run.ledger.faults(), []);
    assert(isWhole, `${run.ledger.missing()} messages did not arrive`);
    assert(run.returns().recovered > run.returns().anew);
    for (const kind of ["loss", "double", "order"]) {
      const copy = run.ledger.copy();
      const name = copy.plant(kind, seeded(SEED));
      const faults = copy.faults();
      assert(faults.length > 0 && faults.every((fault) => fault.startsWith(name)), `${kind}: ${faults}`);
    }
  } finally {
    commands.disconnect();
    for (const node of nodes) await node.stop();
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
