// Servers of Roomcast and of Node with the streams adapter in one cluster.
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../lib/cluster.js";
import { ARGS, registerOperations } from "./operations.js";

registerOperations("streams", (namespace, cluster) => {
  /** Appends an entry like an emitter of the streams adapter, which needs no server */
  const append = (commands, type, data) =>
    commands.xadd("socket.io", "*", "uid", "emitter", "nsp", namespace, "type", String(type), "data", JSON.stringify(data));

  test(`${namespace} from the emitter`, async () => {
    const { all, commands } = cluster();
    for (const client of Object.values(all)) client.take();
    const to = (...rooms) => ({ rooms, except: [], flags: {} });
    const emit = (opts, ...data) => append(commands, 3, { packet: { type: 2, data, nsp: namespace }, opts });
    await emit(to(), "text", ...ARGS);
    await emit({ ...to("a#b", "all"), except: ["nobody"] }, "several");
    await emit(to(all.redis.socket.id), "private");
    await append(commands, 4, { opts: to("all"), rooms: ["new"] });
    await emit(to("new"), "joined");
    await append(commands, 5, { opts: to("all"), rooms: ["new"] });
    await emit(to("new"), "left");
    await append(commands, 9, { packet: ["note", 1] });
    await emit(to(), "marker");
    for (const [name, client] of Object.entries(all)) {
      await client.has("marker");
      await client.has("noted");
      const mine = name === "redis" ? [["private"]] : [];
      const events = client.take().filter(([event]) => event !== "noted");
      assert.deepEqual(events, [["text", ...ARGS], ["several"], ...mine, ["joined"], ["marker"]], name);
    }
  });

  test(`${namespace} all servers of Roomcast deliver in the same order`, async () => {
    const { all } = cluster();
    for (const client of Object.values(all)) client.take();
    const senders = Object.entries(all);
    const emits = Array.from({ length: 25 }, (_, number) => senders.map(([name, client]) => client.run("emit", {}, "numbered", name, number)));
    await Promise.all(emits.flat());
    const received = (client) => client.events.filter(([event]) => event === "numbered").map(([, name, number]) => `${name} ${number}`);
    await until(() => senders.every(([, client]) => received(client).length === 25 * senders.length), "all events");
    // Node delivers its own events as soon as they are stored, so its clients have another order.
    assert.deepEqual(received(all["roomcast 1"]), received(all["roomcast 2"]));
    for (const [, client] of senders) assert.equal(new Set(received(client)).size, 25 * senders.length);
  });
});
