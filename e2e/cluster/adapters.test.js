// Every operation between a server of Node and a node of Roomcast, with each adapter; README.md has the table.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { BridgeNode } from "../lib/node_bridge.js";
import { ADAPTERS, startNode, until } from "../lib/node_cluster.js";
import { startRedis } from "../lib/redis.js";
import { CASES, SOCKETS } from "./cases.js";

let redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis.stop());

for (const adapter of Object.keys(ADAPTERS)) {
  for (const [library, namespace] of [["ioredis", "/"], ["redis", "/a*?c"]]) {
    describe(`${adapter}, ${library}, namespace ${namespace}`, () => {
      let node;
      let ours;
      const failures = [];
      const fail = (error) => failures.push(error);
      before(async () => {
        process.on("uncaughtException", fail).on("unhandledRejection", fail);
        ours = new BridgeNode(redis.port, structuredClone(SOCKETS));
        node = await startNode(redis.port, { library, adapter, namespace });
        await ours.open(namespace, ADAPTERS[adapter].ours);
        // Node subscribes without waiting for it.
        await until(async () => (await ours.nodes()) === 2, "two subscribers");
        const blocked = async () => Number(/blocked_clients:(\d+)/.exec(await ours.publisher.info("clients"))[1]);
        await until(async () => (await blocked()) === 2 * (ADAPTERS[adapter].readers ?? 0), "readers of the stream");
        await until(() => node.nsp.sockets.get(node.client.id)?.rooms.has("all"), "join");
      });
      after(async () => {
        process.off("uncaughtException", fail).off("unhandledRejection", fail);
        await ours.stop();
        await node.close();
        assert.deepEqual(failures, [], "no message of ours fails on Node");
      });
      for (const { name, form, direction, run } of CASES) {
        test(`${name}, ${form}, ${direction}`, async () => {
          await run({ node, ours, adapter, form });
          await ours.settled();
        });
      }
    });
  }
}

test("README.md lists exactly these tests", () => {
  const columns = Object.keys(ADAPTERS);
  const rows = new Map();
  for (const { name, direction, form } of CASES) {
    const row = `${name} | ${direction}`;
    rows.set(row, [...(rows.get(row) ?? []), form]);
  }
  const table = [
    `| Operation | Direction | ${columns.join(" | ")} |`,
    `| --- | --- | ${columns.map(() => "---").join(" | ")} |`,
    ...[...rows].map(([row, forms]) => `| ${row} | ${columns.map(() => forms.join(", ")).join(" | ")} |`),
  ];
  if (process.env.ROOMCAST_PRINT_TABLE) console.log(table.join("\n"));
  const readme = readFileSync(new URL("README.md", import.meta.url), "utf8");
  assert.deepEqual(readme.split("\n").filter((line) => line.startsWith("|")), table);
});
