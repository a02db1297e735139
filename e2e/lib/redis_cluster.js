// A Redis Cluster for a test: three masters with a replica each, on free ports and without data on disk.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { until } from "./cluster.js";
import { startRedis } from "./redis.js";
import { lastingPort } from "./server.js";

const MASTERS = 3;
const RANGES = [[0, 5460], [5461, 10922], [10923, 16383]];

/** Starts the servers, masters first; `commands` has a client of each */
export async function startRedisCluster() {
  const folder = await mkdtemp(join(tmpdir(), "roomcast-redis-cluster-"));
  const servers = [];
  const commands = [];
  const buses = [];
  for (let index = 0; index < 2 * MASTERS; index++) {
    const bus = await lastingPort();
    const options = {
      "cluster-enabled": "yes",
      "cluster-config-file": `nodes-${index}.conf`,
      "cluster-port": bus,
      "cluster-node-timeout": 1000,
      "cluster-require-full-coverage": "no",
      "cluster-replica-validity-factor": 0,
      "repl-diskless-sync-delay": 0,
      dir: folder,
    };
    const server = await startRedis(Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]));
    const client = new Redis(server.port, { retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on("error", () => {});
    buses.push(bus);
    servers.push(server);
    commands.push(client);
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1));
  }
  const ids = await Promise.all(commands.map((client) => client.call("CLUSTER", "MYID")));
  for (const [index, range] of RANGES.entries()) await commands[index].call("CLUSTER", "ADDSLOTSRANGE", ...range.map(String));
  for (const [index, { port }] of servers.entries()) {
    await commands[0].call("CLUSTER", "MEET", "127.0.0.1", String(port), String(buses[index]));
  }
  const allKnow = async (text) => {
    const found = await Promise.all(commands.map((client) => client.call("CLUSTER", "INFO")));
    return found.every((info) => info.includes(text));
  };
  await until(() => allKnow(`cluster_known_nodes:${2 * MASTERS}`), "the servers meet");
  for (let index = 0; index < MASTERS; index++) {
    const replicates = () => commands[MASTERS + index].call("CLUSTER", "REPLICATE", ids[index]).then(() => true, () => false);
    await until(replicates, "a server becomes a replica");
  }
  const isMaster = async (index) => (await commands[index].role())[0] === "master";
  const isWhole = async () => {
    const replications = await Promise.all(commands.map((client) => client.info("replication")));
    if (replications.filter((text) => text.includes("connected_slaves:1\r\n")).length !== MASTERS) return false;
    const nodes = await Promise.all(commands.map((client) => client.call("CLUSTER", "NODES")));
    return nodes.every((text) => !text.includes("fail") && text.match(/slave/g)?.length === MASTERS);
  };
  await until(() => allKnow("cluster_state:ok"), "the cluster is in order");
  await until(isWhole, "the replicas follow");
  return {
    servers,
    commands,
    ports: servers.map(({ port }) => port),
    isMaster,
    isWhole,
    /** Index of the master of a channel */
    async masterOf(channel) {
      const slot = Number(await commands[MASTERS].call("CLUSTER", "KEYSLOT", channel));
      const ranges = await commands[MASTERS].call("CLUSTER", "SLOTS");
      const [, , [, port]] = ranges.find(([first, last]) => first <= slot && slot <= last);
      return servers.findIndex((server) => server.port === port);
    },
    /** Number of subscribers of a sharded channel, on all servers that run */
    async subscribers(channel, indices = servers.keys()) {
      const counts = [...indices].map(async (index) => Number((await commands[index].pubsub("SHARDNUMSUB", channel))[1]));
      return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    },
    async stop() {
      commands.forEach((client) => client.disconnect());
      await Promise.all(servers.map((server) => server.stop()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}
