// Connection state recovery: unmodified socket.io-client 4 and a plain client reconnect after broken connections.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectTcp, createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import msgpack from "socket.io-msgpack-parser";
import { until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { startExample, target } from "../lib/server.js";
import { inTime, WebSocketClient } from "../lib/websocket.js";

const skip = target === "node" && "an application of our own";
const WAYS = {
  "by polling": { transports: ["polling"] },
  "by WebSocket": { transports: ["websocket"] },
  "after an upgrade": { transports: ["polling", "websocket"] },
  "in MessagePack": { transports: ["websocket"], path: "/msgpack/", parser: msgpack },
  "in MessagePack, by polling": { transports: ["polling"], path: "/msgpack/", parser: msgpack },
};

/** Recovery time of the short-lived server, in milliseconds; enough for a fast reconnect on a busy machine */
const AWAY = 2000;

let servers;
before(async () => {
  if (skip) return;
  const start = (flags) => startExample("recovery_server", { threads: 3, ...flags });
  const [usual, hasty, forgetful, strict] = await Promise.all([
    start({}),
    start({ away: AWAY }),
    start({ "log-events": 5 }),
    start({ "ask-again": true }),
  ]);
  servers = { usual, hasty, forgetful, strict };
});
after(() => Promise.all(Object.values(servers ?? {}).map((server) => server.stop())));

/** Client that records events in `heard`, and reconnects only on request */
async function connect(options, server = servers.usual) {
  const socket = io(server.url, { forceNew: true, reconnection: false, ...options });
  socket.heard = [];
  // Events have their offset after the arguments.
  socket.on("heard", (...args) => socket.heard.push(args.slice(0, -1)));
  await connected(socket);
  return socket;
}

async function connected(socket) {
  const refused = once(socket, "connect_error").then(([error]) => Promise.reject(error));
  await inTime(Promise.race([once(socket, "connect"), refused]), PATIENCE, "no connect");
  if (socket.io.opts.transports.length > 1) {
    await until(() => socket.io.engine.transport.name === "websocket", "no upgrade");
  }
}

/** Breaks the connection; a WebSocket without a close frame */
async function cut(socket) {
  const gone = once(socket, "disconnect");
  const { engine } = socket.io;
  if (engine.transport.name === "websocket") engine.transport.ws.terminate();
  else engine.close();
  await inTime(gone, PATIENCE, "no disconnect");
}

async function comeBack(socket) {
  socket.connect();
  await connected(socket);
}

const ask = (socket, event, ...args) =>
  inTime(new Promise((resolve) => socket.emit(event, ...args, resolve)), PATIENCE, `no answer to ${event}`);

/** Sends an event through another client; resolves when it has been sent */
async function say(speaker, room, ...args) {
  speaker.emit("say", room, ...args);
  await ask(speaker, "state");
}

/** Path to the server that can break for the client alone: the server's side of its connections stays open */
async function forward(to) {
  const clients = new Set();
  const upstreams = [];
  let down = false;
  const proxy = createServer({ allowHalfOpen: true }, (client) => {
    // The close packet of a polling client does not arrive either.
    if (down) return client.destroy();
    const upstream = connectTcp({ port: to, host: "127.0.0.1", allowHalfOpen: true });
    upstreams.push(upstream);
    clients.add(client);
    for (const [from, into] of [[client, upstream], [upstream, client]]) {
      from.on("data", (bytes) => into.destroyed || into.write(bytes));
      from.on("error", () => {});
    }
    client.on("close", () => clients.delete(client));
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { port } = proxy.address();
  const cut = () => {
    down = true;
    clients.forEach((client) => client.destroy());
  };
  const restore = () => (down = false);
  const close = async () => {
    cut();
    upstreams.forEach((upstream) => upstream.destroy());
    proxy.close();
  };
  return { port, url: `http://127.0.0.1:${port}`, cut, restore, close };
}

/** Waits until the server has registered a disconnect, and so retains the session */
async function kept(speaker, id) {
  const deadline = Date.now() + PATIENCE;
  while (await ask(speaker, "present", id)) assert.ok(Date.now() < deadline, `${id} is still connected`);
}

async function hears(socket, expected) {
  await until(() => socket.heard.length >= expected.length, `heard only ${JSON.stringify(socket.heard)}`);
  assert.deepEqual(socket.heard.splice(0), expected);
}

for (const [way, options] of Object.entries(WAYS)) {
  describe(`a client that reconnects ${way}`, { skip }, () => {
    let speaker;
    before(async () => (speaker = await connect({ transports: ["websocket"] })));
    after(() => speaker?.disconnect());

    const cutAndKept = async (socket) => {
      const { id } = socket;
      await cut(socket);
      await kept(speaker, id);
      return id;
    };

    test("recovers its id, rooms and missed events, binary too, in order", async () => {
      const socket = await connect(options);
      assert.equal(socket.recovered, false);
      await ask(socket, "join", "red");
      await say(speaker, "red", "before");
      await hears(socket, [["before"]]);
      const id = await cutAndKept(socket);
      await say(speaker, "red", 1, { two: [2] });
      await say(speaker, "blue", "not for it");
      await say(speaker, "red", Buffer.from([1, 2, 3]), { deep: [Buffer.alloc(70_000, 7)] });
      await say(speaker, null, "to everybody", null);
      await say(speaker, "red");
      await say(speaker, id, "to itself");
      await comeBack(socket);
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      await say(speaker, "red", "after");
      await hears(socket, [
        [1, { two: [2] }],
        [Buffer.from([1, 2, 3]), { deep: [Buffer.alloc(70_000, 7)] }],
        ["to everybody", null],
        [],
        ["to itself"],
        ["after"],
      ]);
      assert.deepEqual(await ask(socket, "state"), { recovered: true, rooms: ["red"] });
      socket.disconnect();
    });

    test("recovers repeatedly, with and without missed events", async () => {
      const socket = await connect(options);
      const { id } = socket;
      for (const missed of [[["1"]], [], [], [["2"], ["3"]], [["4"]]]) {
        await cutAndKept(socket);
        for (const [text] of missed) await say(speaker, id, text);
        await comeBack(socket);
        assert.equal(socket.recovered, true);
        assert.equal(socket.id, id);
        await hears(socket, missed);
      }
      socket.disconnect();
    });

    test("recovers without earlier events and after long silence", async () => {
      const socket = await connect(options);
      await sleep(1500);
      const id = await cutAndKept(socket);
      await say(speaker, id, "first");
      await comeBack(socket);
      assert.equal(socket.recovered, true);
      await hears(socket, [["first"]]);
      socket.disconnect();
    });

    test("receives a continuous stream exactly once", async () => {
      const socket = await connect(options);
      const { id } = socket;
      await ask(socket, "join", "stream");
      let next = 0;
      const stream = setInterval(() => speaker.emit("say", "stream", next++), 1);
      for (let round = 0; round < 4; round += 1) {
        await sleep(60);
        await cutAndKept(socket);
        await sleep(20);
        await comeBack(socket);
        assert.equal(socket.recovered, true);
        assert.equal(socket.id, id);
      }
      clearInterval(stream);
      await until(() => socket.heard.length >= next, "not everything came");
      assert.deepEqual(socket.heard.flat(), Array.from({ length: next }, (_, number) => number));
      socket.disconnect();
    });

    test("takes its session over from a connection that the server holds open", async () => {
      const path = await forward(servers.usual.port);
      const socket = await connect({ ...options }, { url: path.url });
      const { id } = socket;
      await ask(socket, "join", "red");
      await say(speaker, "red", "before");
      await hears(socket, [["before"]]);
      for (let round = 0; round < 3; round += 1) {
        const gone = once(socket, "disconnect");
        path.cut();
        await inTime(gone, PATIENCE, "no disconnect");
        await say(speaker, "red", round, Buffer.from([round]));
        await say(speaker, id, "to itself");
        assert.equal(await ask(speaker, "present", id), true);
        path.restore();
        await comeBack(socket);
        assert.equal(socket.recovered, true);
        assert.equal(socket.id, id);
        await say(speaker, "red", "after");
        await hears(socket, [[round, Buffer.from([round])], ["to itself"], ["after"]]);
      }
      assert.deepEqual(await ask(socket, "state"), { recovered: true, rooms: ["red"] });
      socket.disconnect();
      await kept(speaker, id);
      await path.close();
    });

    test("does not receive volatile events or events with acks again", async () => {
      const socket = await connect(options);
      const id = await cutAndKept(socket);
      speaker.emit("volatile", "volatile");
      await say(speaker, id, "kept");
      await comeBack(socket);
      assert.equal(socket.recovered, true);
      await hears(socket, [["kept"]]);
      socket.disconnect();
    });

    test("gets a new session after a disconnect by either side", async () => {
      const socket = await connect(options);
      for (const leave of [() => socket.emit("out", false), () => socket.emit("out", true), () => socket.disconnect()]) {
        const { id } = socket;
        const gone = once(socket, "disconnect");
        leave();
        await inTime(gone, PATIENCE, "no disconnect");
        await kept(speaker, id);
        await comeBack(socket);
        assert.equal(socket.recovered, false);
        assert.notEqual(socket.id, id);
      }
      socket.disconnect();
    });
  });
}

describe("a client that reconnects", { skip }, () => {
  const options = { transports: ["websocket"] };

  test("gets a new session after the recovery time", async () => {
    const [socket, speaker] = [await connect(options, servers.hasty), await connect(options, servers.hasty)];
    const { id } = socket;
    await cut(socket);
    await kept(speaker, id);
    await sleep(AWAY + 300);
    await comeBack(socket);
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
    assert.deepEqual(await ask(socket, "state"), { recovered: false, rooms: [] });
    // Again, within the recovery time.
    const { id: second } = socket;
    await cut(socket);
    await kept(speaker, second);
    await comeBack(socket);
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, second);
    [socket, speaker].forEach((socket) => socket.disconnect());
  });

  test("gets a new session only if a missed event was dropped", async () => {
    const [lucky, unlucky, speaker] = await Promise.all([1, 2, 3].map(() => connect(options, servers.forgetful)));
    await ask(lucky, "join", "quiet");
    await ask(unlucky, "join", "busy");
    const ids = [lucky.id, unlucky.id];
    await Promise.all([cut(lucky), cut(unlucky)]);
    for (const id of ids) await kept(speaker, id);
    for (let count = 0; count < 10; count += 1) await say(speaker, "busy", count);
    await say(speaker, "quiet", "missed");
    await Promise.all([comeBack(lucky), comeBack(unlucky)]);
    assert.deepEqual([lucky.recovered, unlucky.recovered], [true, false]);
    await hears(lucky, [["missed"]]);
    assert.deepEqual(unlucky.heard, []);
    [lucky, unlucky, speaker].forEach((socket) => socket.disconnect());
  });

  test("runs middlewares again if configured, and may retry", async () => {
    const auth = {};
    const socket = await connect({ ...options, auth: (done) => done(auth) }, servers.strict);
    const speaker = await connect(options, servers.strict);
    const { id } = socket;
    await ask(socket, "join", "red");
    await cut(socket);
    await kept(speaker, id);
    await say(speaker, "red", "missed");
    auth.refuse = true;
    await assert.rejects(comeBack(socket), { message: "refused", data: { asked: true } });
    auth.refuse = false;
    socket.io.engine.close();
    await servers.strict.settled();
    await comeBack(socket);
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, id);
    await hears(socket, [["missed"]]);
    [socket, speaker].forEach((socket) => socket.disconnect());
  });

  test("takes its session over in JSON mode", async () => {
    const speaker = await connect(options);
    const path = await forward(servers.usual.port);
    const open = (port, query = "") =>
      WebSocketClient.open(`ws://127.0.0.1:${port}/ws${query}`, { protocols: ["roomcast.json"] });
    const next = async (client) => JSON.parse(await client.next());
    const first = await open(path.port);
    const [{ sid, pid }] = await next(first);
    await say(speaker, sid, "live");
    const [{ offset }] = await next(first);
    path.cut();
    await say(speaker, sid, "missed", 1);
    await say(speaker, sid, "missed", 2);
    assert.equal(await ask(speaker, "present", sid), true);
    const second = await open(servers.usual.port, `?pid=${pid}&offset=${offset}`);
    assert.deepEqual(await next(second), [{ sid, pid }]);
    assert.deepEqual((await next(second)).slice(1), ["heard", "missed", 1]);
    assert.deepEqual((await next(second)).slice(1), ["heard", "missed", 2]);
    // A connection whose client is alive learns why it is closed.
    const third = await open(servers.usual.port, `?pid=${pid}`);
    assert.deepEqual(await next(third), [{ sid, pid }]);
    assert.equal((await second.closed).code, 4409);
    third.terminate();
    speaker.disconnect();
    await path.close();
  });

  test("sends its recovery token in the query in JSON mode", async () => {
    const speaker = await connect(options);
    const open = (query = "") => WebSocketClient.open(`ws://127.0.0.1:${servers.usual.port}/ws${query}`, { protocols: ["roomcast.json"] });
    const next = async (client) => JSON.parse(await client.next());
    let client = await open();
    const [{ sid, pid }] = await next(client);
    assert.ok(sid && pid);
    client.send(JSON.stringify([{ ack: 1 }, "join", "plain"]));
    assert.deepEqual(await next(client), [{ re: 1 }, true]);
    await say(speaker, "plain", "live");
    const [{ offset }, ...live] = await next(client);
    assert.deepEqual(live, ["heard", "live"]);
    client.terminate();
    await kept(speaker, sid);
    await say(speaker, "plain", "missed", Buffer.from([7]));
    await say(speaker, "plain", "and this");
    client = await open(`?pid=${encodeURIComponent(pid)}&offset=${encodeURIComponent(offset)}`);
    assert.deepEqual(await next(client), [{ sid, pid }]);
    const [header, ...missed] = await next(client);
    assert.equal(header.binary, 1);
    assert.deepEqual(missed, ["heard", "missed", { _placeholder: true, num: 0 }]);
    assert.deepEqual(await client.next(), Buffer.from([7]));
    assert.deepEqual((await next(client)).slice(1), ["heard", "and this"]);
    // No offset means that no event has arrived since the reconnect.
    client.terminate();
    await kept(speaker, sid);
    client = await open(`?pid=${pid}`);
    assert.deepEqual(await next(client), [{ sid, pid }]);
    assert.deepEqual((await next(client)).slice(1), ["heard", "missed", { _placeholder: true, num: 0 }]);
    assert.deepEqual(await client.next(), Buffer.from([7]));
    assert.deepEqual((await next(client)).slice(1), ["heard", "and this"]);
    client.terminate();
    const other = await open("?pid=nobody&offset=nothing");
    const [anew] = await next(other);
    assert.notEqual(anew.sid, sid);
    assert.notEqual(anew.pid, "nobody");
    other.terminate();
    speaker.disconnect();
  });
});

describe("an event with retries", { skip }, () => {
  const stubborn = { transports: ["websocket"], retries: 10, ackTimeout: 100 };
  let asker;
  before(async () => (asker = await connect({ transports: ["websocket"] })));
  after(() => asker?.disconnect());
  let ids = 0;
  const order = (socket, time) => {
    const answer = new Promise((resolve, reject) => {
      socket.emit("order", `${socket.id} ${ids++}`, time, (error, number) => (error ? reject(error) : resolve(number)));
    });
    return inTime(answer, PATIENCE, "no answer to the order");
  };

  test("an event that is sent again is handled once", async () => {
    const socket = await connect(stubborn);
    const first = await order(socket, 450);
    assert.equal(await order(socket, 0), first + 1, "each repeat was handled");
    socket.disconnect();
  });

  test("an event that is sent again after a recovery is handled once", async () => {
    const socket = await connect({ ...stubborn, ackTimeout: 10_000 });
    const { id } = socket;
    const first = await order(socket, 0);
    const second = order(socket, 450);
    await sleep(100);
    await cut(socket);
    await kept(asker, id);
    await comeBack(socket);
    assert(socket.recovered);
    assert.equal(await second, first + 1);
    assert.equal(await order(socket, 0), first + 2);
    socket.disconnect();
  });
});
