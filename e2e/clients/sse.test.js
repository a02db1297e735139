// The example's transport: clients over server-sent events and POST, in one room with other clients.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { launchChromium, openBarePage, withoutChromium } from "../lib/chromium.js";
import { until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { startExample, target } from "../lib/server.js";
import { NodeEventSource, socketOverEvents } from "../lib/sse.js";
import { WebSocketClient } from "../lib/websocket.js";

const skip = target === "node" && "the reference has no such transport";
const ROOM = "red";
const members = [];
let server;
let browser;

before(async () => {
  if (skip) return;
  server = await startExample("sse");
  members.push(eventsInNode());
  if (!withoutChromium) {
    browser = await launchChromium();
    members.push(await eventsInChromium());
  }
  members.push(socketIo("polling"), socketIo("websocket"), await plain());
  await Promise.all(members.map(({ joined }) => joined));
});

after(async () => {
  members.forEach((member) => member.close());
  await browser?.close();
  await server?.stop();
});

test("a browser takes part", { skip: skip || withoutChromium }, () => {
  assert.ok(members.some(({ name }) => name === "EventSource in Chromium"));
});

test("every client is in the room under its own id, and requests are answered", { skip }, () => {
  assert.equal(new Set(members.map(({ id }) => id)).size, members.length);
  for (const { name, id } of members) assert.match(id, /^[\w-]{16,}$/, name);
});

test("messages reach all clients, complete and in order", { skip }, async () => {
  const expected = [];
  for (const sender of members) {
    for (const text of [sender.name, "", "two\nlines\r\n", 'déjà てすと 👩‍🚀 "quoted" \\', "x".repeat(100_000)]) {
      await sender.say(text);
      expected.push([sender.id, text]);
      await until(() => members.every(({ said }) => said.length >= expected.length), `${sender.name}: not all heard it`);
    }
  }
  for (const { name, said } of members) assert.deepEqual(said, expected, name);
});

test("binary reaches all clients", { skip }, async () => {
  const artists = members.filter(({ draw }) => draw);
  const expected = [];
  for (const sender of artists) {
    for (const bytes of [[0, 255, 10, 13, 98], [], Array.from({ length: 1000 }, (_, at) => at % 256)]) {
      await sender.draw(bytes);
      expected.push([sender.id, bytes]);
      await until(() => artists.every(({ drawn }) => drawn.length >= expected.length), `${sender.name}: not all saw it`);
    }
  }
  for (const { name, drawn } of artists) assert.deepEqual(drawn, expected, name);
});

test("all at once: loses and duplicates nothing, keeps each sender's order", { skip }, async () => {
  const COUNT = 100;
  const before = members.map(({ said }) => said.length);
  await Promise.all(
    members.map(async (sender) => {
      for (let number = 0; number < COUNT; number += 1) await sender.say(String(number));
    }),
  );
  const total = COUNT * members.length;
  await until(() => members.every(({ said }, at) => said.length >= before[at] + total), "not all arrived");
  const inOrder = Array.from({ length: COUNT }, (_, number) => String(number));
  for (const [at, { name, said }] of members.entries()) {
    const heard = said.splice(before[at]);
    assert.equal(heard.length, total, name);
    for (const { id } of members) {
      assert.deepEqual(heard.filter(([from]) => from === id).map(([, text]) => text), inOrder, name);
    }
  }
});

test("rejects invalid requests; closing the stream disconnects", { skip }, async () => {
  const client = eventsInNode();
  await client.joined;
  const status = async (method, body) => {
    const answer = await fetch(client.socket.address(), { method, body });
    await answer.arrayBuffer();
    return answer.status;
  };
  assert.equal(await status("GET"), 400);
  assert.equal(await status("PUT", "4x"), 400);
  assert.equal(await status("POST", "x".repeat(1_000_001)), 413);
  await client.say("still here");
  await until(() => client.said.length === 1, "no further message");
  client.close();
  const deadline = Date.now() + PATIENCE;
  for (let last; (last = await status("POST", "3")) !== 400; ) {
    assert.ok(Date.now() < deadline, `the session still exists: ${last}`);
  }
});

/** Records events in `said` and `drawn`; `joined` resolves when the client is in the room and has its `id` */
function member(name, open) {
  const made = { name, said: [], drawn: [] };
  made.joined = new Promise((resolve) => {
    made.hear = ([event, ...args]) => {
      if (event === "said") made.said.push(args);
      else if (event === "drawn") made.drawn.push([args[0], [...args[1]]]);
      else if (event === "answer") resolve((made.id = args[1]));
      else if (event === "connected") made.enter();
      else if (event !== "opened") made.said.push([event, ...args]);
    };
  });
  return Object.assign(made, open(made));
}

function eventsInNode() {
  return member("EventSource in Node", (made) => {
    const socket = socketOverEvents(NodeEventSource, server.url, (event) => {
      if (event[0] === "opened") assert.deepEqual(event[1].upgrades, []);
      made.hear(event);
    });
    return {
      socket,
      enter: () => socket.ask(7, "join", ROOM),
      say: (text) => socket.emit("say", ROOM, text),
      draw: (bytes) => socket.emitBinary("draw", ROOM, bytes),
      close: () => socket.close(),
    };
  });
}

async function eventsInChromium() {
  const page = await openBarePage(browser, server.url);
  const made = member("EventSource in Chromium", () => {
    const call = (method, ...args) => page.evaluate(([method, args]) => window.socket[method](...args), [method, args]);
    return {
      enter: () => call("ask", 7, "join", ROOM),
      say: (text) => call("emit", "say", ROOM, text),
      draw: (bytes) => call("emitBinary", "draw", ROOM, bytes),
      close: () => {},
    };
  });
  await page.exposeFunction("report", (event) => made.hear(event));
  await page.addScriptTag({ content: socketOverEvents.toString() });
  await page.evaluate(() => {
    window.socket = window.socketOverEvents(window.EventSource, window.location.origin, window.report);
  });
  return made;
}

function socketIo(transport) {
  return member(`socket.io-client ${transport}`, (made) => {
    const socket = io(server.url, { forceNew: true, reconnection: false, transports: [transport] });
    socket.onAny((...event) => made.hear(event));
    socket.on("connect", () => socket.emit("join", ROOM, (id) => made.hear(["answer", 7, id])));
    return {
      say: (text) => socket.emit("say", ROOM, text),
      draw: (bytes) => socket.emit("draw", ROOM, Buffer.from(bytes)),
      close: () => socket.close(),
    };
  });
}

/** A plain WebSocket client in JSON mode */
async function plain() {
  const client = await WebSocketClient.open(`${server.url}/ws`, { protocols: ["roomcast.json"] });
  return member("plain WebSocket", (made) => {
    const receive = (data, binary) => {
      if (binary) return;
      const [head, ...rest] = JSON.parse(data);
      if (typeof head === "string") made.hear([head, ...rest]);
      else if (head.re) made.hear(["answer", head.re, ...rest]);
    };
    client.waiting.forEach((data) => receive(data, typeof data !== "string"));
    client.socket.on("message", receive);
    client.send(JSON.stringify([{ ack: 7 }, "join", ROOM]));
    return {
      say: async (text) => client.send(JSON.stringify(["say", ROOM, text])),
      close: () => client.terminate(),
    };
  });
}
