// Expectations of the test suites of socket.io-client and engine.io-client on a server, one case for each:
// the server has the handlers of those suites. Checks of the client alone are omitted.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io, Manager } from "socket.io-client";
import { PATIENCE } from "../lib/patience.js";
import { startExample } from "../lib/server.js";
import { inTime } from "../lib/websocket.js";

// The Engine.IO client that this Socket.IO client depends on.
const socketIoClient = createRequire(import.meta.url).resolve("socket.io-client");
const { Socket: EngineSocket } = createRequire(socketIoClient)("engine.io-client");

let server;
let engine;
before(async () => {
  server = await startExample("client_suite_server");
  engine = await startExample("client_suite_server", { "ping-interval": 500, "max-payload": 100, delay: 0 });
});
after(() => Promise.all([server.stop(), engine.stop()]));

const opened = [];
const connect = (namespace = "/", options = {}) => {
  const socket = io(`${server.url}${namespace}`, { forceNew: true, ...options });
  opened.push(socket);
  return socket;
};
const hear = (socket, event) => inTime(once(socket, event), PATIENCE, `no ${event}`);
const ask = (socket, event, ...args) => inTime(socket.emitWithAck(event, ...args), PATIENCE, `no answer to ${event}`);
const leave = () => opened.splice(0).forEach((socket) => socket.disconnect());

describe("socket.io-client: connecting", () => {
  after(leave);

  test("two connections to one path with separate managers", async () => {
    const [first, second] = [connect(), connect()];
    await Promise.all([hear(first, "connect"), hear(second, "connect")]);
    assert.notEqual(first.io, second.io);
    assert.notEqual(first.id, second.id);
  });

  test("connections with different queries", async () => {
    const sockets = ["a=1", "a=2"].map((query) => connect("/", { query }));
    await Promise.all(sockets.map((socket) => hear(socket, "connect")));
    const seen = await Promise.all(sockets.map((socket) => ask(socket, "getHandshake")));
    assert.deepEqual(seen.map(({ query }) => query.a), ["1", "2"]);
  });

  test("several namespaces over one connection, one joined later", async () => {
    const manager = new Manager(server.url);
    const [foo, asd] = [manager.socket("/foo"), manager.socket("/asd")];
    opened.push(foo, asd);
    await Promise.all([hear(foo, "connect"), hear(asd, "connect")]);
    const valid = manager.socket("/valid");
    opened.push(valid);
    await hear(valid, "connect");
    assert.equal(manager.engine.id.length, 20);
  });

  test("a namespace joined after the connection was closed", async () => {
    const manager = new Manager(server.url, { autoConnect: false });
    const first = manager.socket("/");
    const second = manager.socket("/foo");
    opened.push(first, second);
    first.connect();
    await hear(first, "connect");
    first.disconnect();
    second.connect();
    await hear(second, "connect");
  });

  test("leaving a namespace keeps the connection of the other", async () => {
    const manager = new Manager(server.url);
    const [foo, asd] = [manager.socket("/foo"), manager.socket("/asd")];
    opened.push(foo, asd);
    await Promise.all([hear(foo, "connect"), hear(asd, "connect")]);
    foo.disconnect();
    await sleep(100);
    assert.ok(asd.connected);
    assert.equal(manager.engine.readyState, "open");
  });

  test("socket ids match the server's and end with the connection", async () => {
    for (const namespace of ["/", "/foo"]) {
      const socket = connect(namespace);
      await hear(socket, "connect");
      assert.equal(await ask(socket, "getId"), socket.id);
      const gone = hear(socket, "disconnect");
      socket.disconnect();
      await gone;
      assert.equal(socket.id, undefined);
    }
  });

  test("automatic and manual reconnect, with a new id if not recovered", async () => {
    const socket = connect("/", { reconnectionDelay: 20, reconnectionDelayMax: 40, transports: ["websocket"] });
    await hear(socket, "connect");
    socket.io.engine.close();
    await hear(socket, "connect");
    const first = socket.id;
    const gone = hear(socket, "disconnect");
    socket.disconnect();
    await gone;
    socket.connect();
    await hear(socket, "connect");
    assert.notEqual(socket.id, first);
  });

  test("recovery keeps the id after the engine was closed", async () => {
    const socket = connect("/", { reconnection: false });
    await hear(socket, "connect");
    const { id } = socket;
    socket.emit("hi");
    await hear(socket, "hi");
    const gone = hear(socket, "disconnect");
    socket.io.engine.close();
    await gone;
    // Recovery requires that the server has registered the disconnect.
    await server.settled();
    socket.connect();
    await hear(socket, "connect");
    assert.deepEqual([socket.id, socket.recovered], [id, true]);
  });

  test("a handshake slower than the client's timeout", async () => {
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = connect("/", { transports, timeout: 0, reconnection: false });
      const [error] = await hear(socket, "connect_error");
      assert.equal(error.message, "timeout");
    }
  });

  test("disconnecting while opening raises no error", async () => {
    const socket = connect("/", { timeout: 100 });
    let failed = false;
    socket.on("connect_error", () => (failed = true));
    socket.disconnect();
    await sleep(300);
    assert.equal(failed, false);
  });
});

describe("socket.io-client: handshake data", () => {
  after(leave);

  for (const [what, namespace, options, expected] of [
    ["an object as query, in the main namespace", "/", { query: { e: "f" } }, { e: "f" }],
    ["a query string, in the main namespace", "/?c=d", {}, { c: "d" }],
    ["an object as query, in another namespace", "/abc", { query: { a: "b" } }, { a: "b" }],
    ["a query string, in another namespace", "/abc?b=c&d=e", {}, { b: "c", d: "e" }],
    ["a query with letters to be encoded", "/abc", { query: { "&a": "&=?a" } }, { "&a": "&=?a" }],
  ]) {
    test(what, async () => {
      const socket = connect(namespace, options);
      const greeted = namespace.startsWith("/abc");
      const told = greeted ? (await hear(socket, "handshake"))[0] : await ask(socket, "getHandshake");
      for (const [name, value] of Object.entries(expected)) assert.equal(told.query[name], value);
    });
  }

  test("auth as an object and from a function, per namespace", async () => {
    const socket = connect("/abc", { auth: { a: "b", c: "d" } });
    const [told] = await hear(socket, "handshake");
    assert.deepEqual(told.auth, { a: "b", c: "d" });
    assert.equal(told.query.a, undefined);
    const other = connect("/abc", { auth: (give) => give({ e: "f" }) });
    assert.deepEqual((await hear(other, "handshake"))[0].auth, { e: "f" });
  });
});

describe("socket.io-client: connect errors", () => {
  after(leave);

  for (const [what, namespace, message] of [
    ["of the main namespace", "/?fail=true", "Auth failed (main namespace)"],
    ["of a namespace that rejects all clients", "/no", "Auth failed (custom namespace)"],
    ["of an unknown namespace", "/invalid", "Invalid namespace"],
  ]) {
    test(`a middleware's ${what} is not retried`, async () => {
      const socket = connect(namespace, { reconnectionDelay: 10 });
      const [error] = await hear(socket, "connect_error");
      assert.ok(error instanceof Error);
      assert.equal(error.message, message);
      let again = false;
      socket.on("connect_error", () => (again = true));
      await sleep(100);
      assert.deepEqual([again, socket.active], [false, false]);
    });
  }
});

describe("socket.io-client: events and acks", () => {
  let socket;
  before(async () => {
    socket = connect();
    await hear(socket, "connect");
  });
  after(leave);

  const told = async (event, told, ...args) => {
    const answer = hear(socket, told);
    socket.emit(event, ...args);
    return answer;
  };

  test("a server ack with two arguments", async () => {
    socket.once("ack", (answer) => answer(5, { test: true }));
    await told("ack", "got it");
  });
  test("an ack with a date", async () => {
    assert.ok(!Number.isNaN(Date.parse(await ask(socket, "getAckDate", { test: true }))));
  });
  test("a date as text and in an object", async () => {
    const [date] = await told("getDate", "takeDate");
    assert.equal(new Date(date).toISOString(), date);
    const [{ date: inside }] = await told("getDateObj", "takeDateObj");
    assert.equal(new Date(inside).toISOString(), inside);
  });
  test("the value false", async () => assert.equal((await told("false", "false"))[0], false));
  test("multi-byte characters, in order", async () => {
    const heard = [];
    socket.on("takeUtf8", (text) => heard.push(text));
    socket.emit("getUtf8");
    await ask(socket, "echo", "all that came before");
    assert.deepEqual(heard, ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]);
  });
  test("binary from the server", async () => {
    for (const [event, answer] of [["doge", "doge"], ["getbin", "takebin"]]) {
      const [bytes] = await told(event, answer);
      assert.equal(Buffer.from(bytes).toString(), "asdfasdf");
    }
  });
  test("binary to the server", async () => {
    await told("buffa", "buffack", Buffer.from("asdfasdf"));
    await told("blob", "back", new Uint8Array([1, 2]).buffer);
  });
  test("binary within JSON", async () => {
    const mixed = { hello: "lol", message: Buffer.from("hello world"), goodbye: "gotcha" };
    await told("jsonbuff", "jsonbuff-ack", mixed);
    await told("jsonblob", "jsonblob-ack", mixed);
  });
  test("binary in order", async () => {
    socket.emit("abuff1", Buffer.from("abuff1"));
    await told("abuff2", "abuff2-ack", "please arrive second");
    socket.emit("blob1", Buffer.from("first"));
    socket.emit("blob2", "second");
    await told("blob3", "blob3-ack", Buffer.from("third"));
  });
  test("an ack within its timeout, by callback and by promise", async () => {
    assert.equal(await socket.timeout(PATIENCE).emitWithAck("echo", 42), 42);
    const answer = new Promise((resolve) => socket.timeout(PATIENCE).emit("echo", "x", (...given) => resolve(given)));
    assert.deepEqual(await answer, [null, "x"]);
  });
  test("an event without handler is not acknowledged", async () => {
    await assert.rejects(socket.timeout(100).emitWithAck("unknown"), /timed out/);
  });
  test("a volatile event arrives when the client is ready", async () => {
    const answer = hear(socket, "hi");
    socket.volatile.emit("hi");
    await answer;
  });
  test("retries keep the order of events", async () => {
    const stubborn = connect("/", { retries: 1, ackTimeout: PATIENCE });
    const answers = await Promise.all([1, 2, 3].map((number) => ask(stubborn, "echo", number)));
    assert.deepEqual(answers, [1, 2, 3]);
  });
  test("pending acks fail when the connection is closed", async () => {
    const leaving = connect();
    await hear(leaving, "connect");
    const answer = assert.rejects(leaving.emitWithAck("unknown"), /disconnected/);
    leaving.disconnect();
    await answer;
  });
  test("events emitted before the connection arrive in order", async () => {
    const early = connect();
    const heard = [];
    for (const number of [1, 2, 3]) early.emit("echo", number, (value) => heard.push(value));
    await ask(early, "echo", 4);
    assert.deepEqual(heard, [1, 2, 3]);
  });
});

describe("engine.io-client", () => {
  const open = (options = {}) => {
    const socket = new EngineSocket(engine.url, options);
    const messages = [];
    socket.on("message", (message) => messages.push(message));
    const next = async () => {
      const deadline = Date.now() + PATIENCE;
      while (messages.length === 0 && Date.now() < deadline) await sleep(5);
      return messages.shift();
    };
    return { socket, next };
  };
  const hearEngine = (socket, event) =>
    inTime(new Promise((resolve) => socket.once(event, (...args) => resolve(args))), PATIENCE, `no ${event}`);

  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    const name = transports.join(" and ");

    test(`${name}: greets, and echoes multi-byte text`, async () => {
      const { socket, next } = open({ transports });
      assert.equal(await next(), "hi");
      for (const text of ["cash money €€€", "👨‍👩‍👧 emoji"]) {
        socket.send(text);
        assert.equal(await next(), text);
      }
      socket.send("give utf8");
      assert.equal(await next(), "пойду спать всем спокойной ночи");
      socket.close();
    });

    test(`${name}: echoes binary, base64-encoded too`, async () => {
      for (const forceBase64 of [false, true]) {
        const { socket, next } = open({ transports, forceBase64 });
        assert.equal(await next(), "hi");
        socket.send(new Uint8Array([0, 1, 2, 3, 4]));
        assert.deepEqual([...new Uint8Array(Buffer.from(await next()))], [0, 1, 2, 3, 4]);
        socket.send("give binary");
        assert.deepEqual([...new Uint8Array(Buffer.from(await next()))], [0, 1, 2, 3, 4]);
        socket.send("give utf8");
        assert.equal(await next(), "пойду спать всем спокойной ночи");
        socket.close();
      }
    });
  }

  test("packets are batched up to the limit, and the server accepts exactly the limit", async () => {
    const { socket, next } = open({ transports: ["polling"] });
    assert.equal(await next(), "hi");
    const sent = ["a".repeat(99), "b".repeat(30), "c".repeat(30), "d".repeat(35), "€".repeat(30)];
    for (const text of sent) socket.send(text);
    for (const text of sent) assert.equal(await next(), text);
    for (const length of [72, 20, 20, 72]) socket.send(Buffer.alloc(length, 1));
    for (const length of [72, 20, 20, 72]) assert.equal(Buffer.from(await next()).length, length);
    socket.close();
  });

  test("over the limit: 413 without a body by polling, 1009 without a reason over WebSocket", async () => {
    for (const [transport, code] of [["polling", 413], ["websocket", 1009]]) {
      const { socket, next } = open({ transports: [transport] });
      assert.equal(await next(), "hi");
      const closed = hearEngine(socket, "close");
      socket.send("a".repeat(101));
      const [reason, details] = await closed;
      if (transport === "polling") {
        assert.equal(reason, "transport error");
        assert.deepEqual([details.description, details.context.status, details.context.responseText], [code, code, ""]);
      } else {
        assert.equal(reason, "transport close");
        assert.deepEqual([details.context.code, details.context.reason], [code, ""]);
      }
    }
  });

  test("unknown session: JSON by polling, rejected upgrade over WebSocket", async () => {
    const unknown = open({ transports: ["polling"], query: { sid: "abc" } });
    // Read the response text before the client clears it.
    const read = ({ description, context }) => [description, context.responseText];
    const refused = new Promise((resolve) => unknown.socket.once("error", (error) => resolve(read(error))));
    const answer = await inTime(refused, PATIENCE, "no error");
    assert.deepEqual(answer, [400, '{"code":1,"message":"Session ID unknown"}']);
    const lost = open({ transports: ["websocket"], query: { sid: "abc" } });
    const [error] = await hearEngine(lost.socket, "error");
    assert.equal(error.message, "websocket error");
  });

  test("tries the second transport when the first is denied", async () => {
    const { socket } = open({ transports: ["polling"], query: { deny: 1 } });
    const [error] = await hearEngine(socket, "error");
    assert.equal(error.context.status, 403);
    socket.close();
    const other = open({ path: "/engine.io/", transports: ["websocket"], query: { deny: 1 } });
    await hearEngine(other.socket, "error");
  });

  test("sends persistent cookies back only if the client keeps cookies", async () => {
    for (const [withCredentials, cookie] of [[true, "1=1; 2=2"], [false, undefined]]) {
      const { socket, next } = open({ transports: ["polling"], withCredentials });
      assert.equal(await next(), "hi");
      socket.send("sendHeaders");
      assert.equal(JSON.parse(await next()).cookie, cookie);
      socket.close();
    }
  });

  test("closing while upgrading: delivers buffered packets, then closes", async () => {
    const { socket, next } = open();
    assert.equal(await next(), "hi");
    const closed = hearEngine(socket, "close");
    socket.send("before the end");
    socket.close();
    await closed;
    assert.equal(socket.readyState, "closed");
  });

  test("heartbeats keep the session open", async () => {
    const { socket, next } = open({ transports: ["websocket"] });
    assert.equal(await next(), "hi");
    await sleep(1200);
    socket.send("still here");
    assert.equal(await next(), "still here");
    socket.close();
  });
});
