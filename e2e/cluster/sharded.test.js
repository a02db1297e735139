// Channels of the sharded adapter, and their subscriptions.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { BridgeNode } from "../lib/node_bridge.js";
import { ADAPTERS, startNode, until } from "../lib/node_cluster.js";
import { startRedis } from "../lib/redis.js";

const ID = "ours0".padEnd(20, "_");

let redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis.stop());

for (const mode of ["static", "dynamic", "dynamic-private"]) {
  describe(mode, () => {
    const namespace = `/${mode}`;
    const adapter = `sharded ${mode}`;
    let node;
    let ours;
    before(async () => {
      ours = new BridgeNode(redis.port, [{ id: ID, rooms: [ID, "shared", "7"], data: {}, handshake: {} }]);
      node = await startNode(redis.port, { adapter, namespace });
      await ours.open(namespace, ADAPTERS[adapter].ours);
      await until(async () => (await ours.nodes()) === 2, "two subscribers");
      await until(() => node.nsp.sockets.get(node.client.id)?.rooms.has("all"), "join");
    });
    after(async () => {
      await ours.stop();
      await node.close();
    });

    /** Names and subscribers of the channels that rooms have */
    const rooms = async () => {
      const start = `socket.io#${namespace}#`;
      const channels = await ours.publisher.pubsub("SHARDCHANNELS", `${start}*`);
      const counts = await ours.publisher.pubsub("SHARDNUMSUB", ...channels);
      const names = channels.map((channel, index) => [channel.slice(start.length, -1), Number(counts[2 * index + 1])]);
      const uids = [ours.channels.uid, node.nsp.adapter.uid, ""];
      return Object.fromEntries(names.filter(([name]) => !uids.includes(name)));
    };
    const arrived = async () => {
      const [{ metrics }] = await ours.bridge.run({ op: "metrics" });
      return Number(/messages_in: (\d+)/.exec(metrics)[1]);
    };
    const marker = async (act) => {
      const before = await arrived();
      act();
      node.nsp.emit("marker");
      await until(() => ours.log.some(({ name }) => name === "marker"), "marker");
      const events = ours.log.splice(0).filter(({ name }) => name !== "marker");
      return { events: events.map(({ name }) => name), arrived: (await arrived()) - before - 1 };
    };

    test("rooms have the same channels as on Node", async () => {
      const nodes = { all: 1, "a#b": 1 };
      // Node subscribes to rooms that have the form of an id, but never publishes to them in this mode.
      const dynamic = { ...nodes, ["x".repeat(20)]: 1, shared: 1, 7: 2 };
      const expected = { static: {}, dynamic, "dynamic-private": { ...dynamic, [ID]: 1, [node.client.id]: 1 } }[mode];
      await until(async () => Object.keys(await rooms()).length >= Object.keys(expected).length, "subscriptions");
      assert.deepEqual(await rooms(), expected);
    });

    test("broadcasts of Node to other rooms do not arrive", async () => {
      const { events, arrived } = await marker(() => {
        for (const room of ["shared", 7, ID]) node.nsp.to(room).emit(String(room));
        for (const room of ["elsewhere", "all"]) node.nsp.to(room).emit(room);
      });
      const wanted = ["shared", "7", ID];
      if (mode === "static") {
        assert.deepEqual([events, arrived], [[...wanted, "elsewhere", "all"], 5]);
      } else {
        assert.deepEqual([events, arrived], [wanted, 3]);
      }
    });

    test("room without members is left", async () => {
      await ours.send({ op: "room", name: "shared", exists: false });
      assert.equal((await rooms()).shared, undefined);
      const { arrived } = await marker(() => node.nsp.to("shared").emit("e"));
      assert.equal(arrived, mode === "static" ? 1 : 0);
      await ours.send({ op: "room", name: "shared", exists: true });
      assert.equal((await rooms()).shared, mode === "static" ? undefined : 1);
    });

    test("closed node is not waited for", async () => {
      await ours.send({ op: "close" });
      assert.equal(await ours.nodes(), 1);
      const nodes = Object.keys(await rooms()).filter((room) => room === "shared" || room === ID);
      assert.deepEqual(nodes, []);
      assert.equal((await node.nsp.fetchSockets()).length, 1);
    });
  });
}
