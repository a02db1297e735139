// Operations in a cluster of servers of Roomcast and of Node, each a process with real clients, from each of them.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { connect, counted, NAMES, ROOMS, SERVERS } from "../lib/cluster.js";
import { startRedis } from "../lib/redis.js";
import { startClusterServer } from "../lib/server.js";

const NAMESPACES = ["/", "/chat", "/dynamic-1", "/a*?c"];
export const ARGS = [1, "zwei", { deep: [null, true, -4, 1.5, "é"] }];
export const BINARY_ARGS = [Buffer.from([0, 255, 7]), { b: Buffer.from("bytes") }, 3];

/** One Redis server, with the client of its commands */
async function startSingle() {
  const redis = await startRedis();
  const commands = new Redis(redis.port);
  return {
    ports: redis.port,
    commands,
    counted: (namespace, adapter) => counted(commands, namespace, NAMES.length, adapter),
    stop: () => {
      commands.disconnect();
      return redis.stop();
    },
  };
}

/**
 * Registers the tests of a cluster of two servers of Roomcast and two of Node with an adapter; `more` registers tests
 * of a namespace, which get the clients and the commands of Redis when they run.
 *
 * `startStore` starts the Redis. If the channels are on several servers, only the messages of one channel are in order.
 */
export function registerOperations(adapter, more, { startStore = startSingle, namespaces = NAMESPACES, ordered = true } = {}) {
  let store;
  const servers = {};
  /** Clients by namespace and server */
  const clients = {};
  /** Passed and all plays of each operation, by the server that performed it */
  const table = new Map();

  before(async () => {
    process.env.RUST_LOG = "warn";
    store = await startStore();
    await Promise.all(
      NAMES.map(async (name) => {
        // Answers on either kind of channel.
        const own = name === "roomcast 2" || name === "redis";
        const flags = { name: name.replace(" ", "-"), mode: adapter, "own-response-channels": own };
        servers[name] = await startClusterServer(SERVERS[name], store.ports, flags);
      }),
    );
    for (const namespace of namespaces) {
      clients[namespace] = {};
      for (const name of NAMES) clients[namespace][name] = await connect(servers[name], namespace);
      await store.counted(namespace, adapter);
    }
  });

  after(async () => {
    for (const name of NAMES) {
      for (const namespace of namespaces) clients[namespace]?.[name]?.socket.disconnect();
      const outcome = await servers[name]?.stop();
      assert.equal(outcome, "SIGTERM", `${name} ended by itself: ${servers[name]?.output}`);
      // A message that a server cannot read is logged.
      assert.doesNotMatch(servers[name].output, /WARN|ERROR/, name);
    }
    await store.stop();
    const columns = ["operation", ...NAMES.map((name) => `from ${name}`)];
    const rows = [...table].map(([operation, plays]) => [operation, ...NAMES.map((name) => plays[name]?.join("/") ?? "")]);
    const widths = columns.map((_, index) => Math.max(...[columns, ...rows].map((row) => row[index].length)));
    for (const row of [columns, ...rows]) console.log(row.map((cell, index) => cell.padEnd(widths[index])).join("  ").trimEnd());
  });

  /** Registers a test of an operation that one server performs for all */
  function operation(name, from, act) {
    test(name, async () => {
      if (!table.has(name)) table.set(name, {});
      const plays = (table.get(name)[from] ??= [0, 0]);
      plays[1] += 1;
      await act();
      plays[0] += 1;
    });
  }

  for (const namespace of namespaces) {
    for (const from of NAMES) {
      describe(`${namespace} from ${from}`, () => {
        let all;
        let sender;
        before(() => {
          all = clients[namespace];
          sender = all[from];
        });

        /** Acts, then resolves to the events of each server's client up to a marker of the same server */
        async function received(act) {
          for (const client of Object.values(all)) client.take();
          await act();
          await sender.run("emit", {}, "marker");
          const found = {};
          for (const client of Object.values(all)) await client.has("marker");
          if (!ordered) await sleep(UNORDERED);
          for (const [name, client] of Object.entries(all)) {
            found[name] = client.take().filter(([event]) => event !== "marker");
          }
          return found;
        }

        const sorted = (events) => [...events].sort((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1));
        const settled = (events) =>
          ordered ? events : Object.fromEntries(Object.entries(events).map(([name, list]) => [name, sorted(list)]));
        const expectEvents = (found, expected) => assert.deepEqual(settled(found), settled(expected));

        const everywhere = (events) => Object.fromEntries(NAMES.map((name) => [name, events]));
        const others = NAMES.filter((name) => name !== from);
        const idOf = (name) => all[name].socket.id;

        operation("broadcast", from, async () => {
          const found = await received(async () => {
            await sender.run("emit", {}, "text", ...ARGS);
            await sender.run("emit", {}, "binary", ...BINARY_ARGS);
            await sender.run("emit", { compress: false }, "uncompressed");
          });
          expectEvents(found, everywhere([["text", ...ARGS], ["binary", ...BINARY_ARGS], ["uncompressed"]]));
        });

        operation("volatile broadcast", from, async () => {
          // Alone, since Node drops it while a connection is being written.
          const found = await received(async () => {
            await sender.run("emit", { volatile: true, to: ["all"] }, "volatile");
            for (const client of Object.values(all)) await client.has("volatile");
          });
          expectEvents(found, everywhere([["volatile"]]));
        });

        operation("broadcast to rooms", from, async () => {
          const found = await received(async () => {
            for (const room of ROOMS) await sender.run("emit", { to: [room] }, "room", room);
            await sender.run("emit", { to: ["nowhere"] }, "nowhere");
            await sender.run("emit", { to: ["7", "all", "nowhere"], except: ["nobody"] }, "several");
            await sender.run("emit", { except: ["7"] }, "excluded");
            await sender.run("emit", { to: ["all"], except: ["a#b"] }, "excluded");
          });
          expectEvents(found, everywhere([...ROOMS.map((room) => ["room", room]), ["several"]]));
        });

        operation("broadcast without the sender", from, async () => {
          const found = await received(async () => {
            await sender.run("emit", { own: true }, "others", 1);
            await sender.run("emit", { own: true, to: ["7"] }, "others", 2);
          });
          expectEvents(found, { ...everywhere([["others", 1], ["others", 2]]), [from]: [] });
        });

        operation("broadcast to the room of a socket", from, async () => {
          const found = await received(async () => {
            for (const name of NAMES) await sender.run("emit", { to: [idOf(name)] }, "private", name);
            await sender.run("emit", { except: others.map(idOf) }, "excluded");
          });
          const own = (name) => [["private", name], ...(name === from ? [["excluded"]] : [])];
          expectEvents(found, Object.fromEntries(NAMES.map((name) => [name, own(name)])));
        });

        operation("broadcast with acknowledgements", from, async () => {
          for (const [name, client] of Object.entries(all)) client.answer = [{ name, b: Buffer.from(name) }];
          const found = await received(async () => assert.equal(await sender.run("ask", {}, "question", ...BINARY_ARGS), true));
          const answers = found[from].filter(([event]) => event === "answer").map(([, answer]) => answer);
          answers.sort((one, other) => NAMES.indexOf(one.name) - NAMES.indexOf(other.name));
          assert.deepEqual(answers, NAMES.map((name) => ({ name, b: Buffer.from(name) })));
          for (const name of others) assert.deepEqual(found[name], [["question", ...BINARY_ARGS]]);
          const single = await received(() => sender.run("ask", { to: [idOf(others[0])] }, "question"));
          assert.deepEqual(single[from], [["answer", { name: others[0], b: Buffer.from(others[0]) }]]);
        });

        operation("broadcast with acknowledgements to nobody", from, async () => {
          const begin = Date.now();
          const found = await received(async () => assert.equal(await sender.run("ask", { to: ["nowhere"] }, "question"), true));
          expectEvents(found, everywhere([]));
          assert(Date.now() - begin < 4000, "each server answers with zero");
        });

        operation("sockets join and leave", from, async () => {
          await received(() => sender.run("join", { to: ["7"], except: ["nobody"], rooms: ["new", "9"] }));
          for (const name of NAMES) {
            const rooms = await all[name].run("rooms");
            assert(rooms.includes("new") && rooms.includes("9"), `${name}: ${rooms}`);
          }
          await received(() => sender.run("leave", { rooms: ["new", "9"] }));
          for (const name of NAMES) {
            const rooms = await all[name].run("rooms");
            assert.deepEqual(rooms, [...ROOMS, idOf(name)].sort(), name);
          }
        });

        operation("fetch sockets", from, async () => {
          const described = (name) => ({
            id: idOf(name),
            rooms: [...ROOMS, idOf(name)].sort(),
            data: { server: name.replace(" ", "-") },
            address: "127.0.0.1",
          });
          const sorted = (found) => [...found].sort((one, other) => (one.id < other.id ? -1 : 1));
          const fetched = await sender.run("fetch", { to: ["all"], except: ["nobody"] });
          for (const socket of fetched) socket.address = socket.address.replace("::ffff:", "");
          assert.deepEqual(sorted(fetched), sorted(NAMES.map(described)));
          assert.deepEqual(await sender.run("fetch", { to: ["nowhere"] }), []);
          if (SERVERS[from] === "roomcast") {
            assert.equal(await sender.run("count"), NAMES.length);
            assert.equal(await sender.run("count", { except: ["7"] }), 0);
          }
        });

        operation("server-side events", from, async () => {
          const found = await received(async () => {
            await sender.run("serverEmit", {}, "note", ...ARGS);
            // Not ordered with the marker: with the streams adapter, only broadcasts are in the stream.
            for (const name of others) await all[name].has("noted");
          });
          expectEvents(found, { ...everywhere([["noted", ...ARGS]]), [from]: [] });
          const answers = await sender.run("serverAsk", {}, "load", ...ARGS);
          const expected = others.map((name) => ({ server: name.replace(" ", "-"), args: ARGS }));
          const sorted = (list) => [...list].sort((one, other) => (one.server < other.server ? -1 : 1));
          assert.deepEqual(sorted(answers), sorted(expected));
        });

        operation("remote sockets", from, async () => {
          for (const name of others) {
            const id = idOf(name);
            all[name].answer = ["from afar"];
            const found = await received(async () => {
              assert.equal(await sender.run("remoteEmit", { id }, "remote", ...BINARY_ARGS), null);
              // Requests may overtake the entries of a stream.
              await all[name].has("remote");
              assert.equal(await sender.run("remoteAsk", { id }, "asked"), null);
              assert.equal(await sender.run("remoteJoin", { id, rooms: ["far"] }), null);
            });
            assert.deepEqual(found[name], [["remote", ...BINARY_ARGS], ["asked"]]);
            assert.deepEqual(found[from], [["answer", "from afar"]]);
            assert((await all[name].run("rooms")).includes("far"));
            await received(() => sender.run("remoteLeave", { id, rooms: ["far"] }));
            assert(!(await all[name].run("rooms")).includes("far"));
          }
        });

        for (const close of [false, true]) {
          operation(close ? "disconnect clients" : "disconnect sockets", from, async () => {
            // Clients of their own, since a manager does not reconnect by itself after a disconnect by the server.
            const leaving = {};
            for (const name of NAMES) leaving[name] = await connect(servers[name], namespace);
            const reasons = NAMES.map((name) => new Promise((resolve) => leaving[name].socket.once("disconnect", resolve)));
            const [first, ...rest] = NAMES.map((name) => leaving[name].socket.id);
            await sender.run("remoteDisconnect", { id: first, close });
            await sender.run("join", { to: rest, rooms: ["leaving"] });
            await sender.run("disconnect", { to: ["leaving"], close });
            const expected = close ? /transport close|io server disconnect/ : /io server disconnect/;
            for (const reason of await Promise.all(reasons)) assert.match(reason, expected);
            for (const client of Object.values(all)) assert(client.socket.connected);
            Object.values(leaving).forEach(({ socket }) => socket.disconnect());
          });
        }
      });
    }

    more?.(namespace, () => ({ all: clients[namespace], commands: store.commands, servers }));
  }
}

/** Time in milliseconds after which messages of all channels have arrived */
const UNORDERED = 60;
