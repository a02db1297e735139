// Plain WebSocket clients on the demo's /ws: bare frames, slash commands, and the subprotocol roomcast.json.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startDemo } from "../lib/server.js";
import { tryOpen, WebSocketClient } from "../lib/websocket.js";

let server;
before(async () => {
  server = await startDemo();
});
after(() => server.stop());

const connect = (protocols = [], options = {}) =>
  WebSocketClient.open(`${server.url}/ws`, { protocols, ...options });
const nextEvent = async (client) => JSON.parse(await client.next());
/** An event without absent fields */
const present = ([event, detail]) => [
  event,
  Object.fromEntries(Object.entries(detail).filter(([, value]) => value !== null && value !== undefined)),
];

describe("/ws without a subprotocol", () => {
  const enter = async () => {
    const client = await connect();
    const [event, hello] = await nextEvent(client);
    assert.equal(event, "hello");
    assert.equal(hello.transport, "websocket");
    return { client, id: hello.id };
  };

  test("selects no subprotocol and begins with hello", async () => {
    const { client, id } = await enter();
    assert.equal(client.protocol, "");
    assert.ok(id.length >= 8);
    client.terminate();
  });

  test("broadcasts every frame except slash commands", async () => {
    const [one, two] = [await enter(), await enter()];
    const everyone = (from, text) => ["everyone", { from, text, via: "websocket" }];
    for (const text of ["hello", "déjà 👩‍🚀", '["json","array"]', "a / b"]) {
      one.client.send(text);
      for (const { client } of [one, two]) assert.deepEqual(present(await nextEvent(client)), everyone(one.id, text));
    }
    one.client.send("/others hi there");
    assert.deepEqual(present(await nextEvent(two.client)), ["others", { from: one.id, text: "hi there", via: "websocket" }]);
    one.client.send("the next");
    assert.deepEqual(present(await nextEvent(one.client)), everyone(one.id, "the next"));
    one.client.terminate();
    two.client.terminate();
  });

  test("slash commands join, send to and leave a room", async () => {
    const [one, two] = [await enter(), await enter()];
    one.client.send("/join slash");
    const [welcome, detail] = await nextEvent(one.client);
    assert.deepEqual([welcome, detail.room, detail.id], ["welcome", "slash", one.id]);
    two.client.send("/join slash");
    assert.deepEqual(await nextEvent(one.client), ["joined", { room: "slash", id: two.id }]);
    assert.equal((await nextEvent(two.client))[0], "welcome");
    one.client.send("/room slash to all of it");
    const said = ["room", { from: one.id, room: "slash", text: "to all of it", via: "websocket" }];
    for (const { client } of [one, two]) assert.deepEqual(present(await nextEvent(client)), said);
    one.client.send("/room-others slash to the others");
    assert.deepEqual(present(await nextEvent(two.client)), [
      "room-others",
      { from: one.id, room: "slash", text: "to the others", via: "websocket" },
    ]);
    one.client.send("/leave slash");
    assert.equal((await nextEvent(one.client))[0], "bye");
    assert.deepEqual(await nextEvent(two.client), ["left", { room: "slash", id: one.id }]);
    two.client.send("/room slash alone");
    assert.equal((await nextEvent(two.client))[1].text, "alone");
    one.client.send("end");
    assert.equal((await nextEvent(one.client))[1].text, "end");
    one.client.terminate();
    two.client.terminate();
  });

  test("a hundred frames in a row keep their order", async () => {
    const { client } = await enter();
    const texts = Array.from({ length: 100 }, (_, index) => `line ${index}`);
    client.send(...texts);
    for (const text of texts) assert.equal((await nextEvent(client))[1].text, text);
    client.terminate();
  });

  test("notifies the room of a client that is cut off", async () => {
    const [one, two] = [await enter(), await enter()];
    one.client.send("/join missed");
    assert.equal((await nextEvent(one.client))[0], "welcome");
    two.client.send("/join missed");
    assert.equal((await nextEvent(one.client))[0], "joined");
    two.client.terminate();
    assert.deepEqual(await nextEvent(one.client), ["left", { room: "missed", id: two.id }]);
    one.client.terminate();
  });

  test("completes the close handshake", async () => {
    const { client } = await enter();
    assert.equal((await client.close(1000)).code, 1000);
  });
});

describe("/ws with roomcast.json", () => {
  const enter = async () => {
    const client = await connect(["roomcast.json"]);
    assert.equal(client.protocol, "roomcast.json");
    const first = await nextEvent(client);
    assert.equal(first.length, 1);
    assert.deepEqual(Object.keys(first[0]), ["sid"]);
    const [event, hello] = await nextEvent(client);
    assert.equal(event, "hello");
    return { client, id: hello.id, sid: first[0].sid };
  };

  test("is selected when offered, among others too", async () => {
    const client = await connect(["unknown.example", "roomcast.json"]);
    assert.equal(client.protocol, "roomcast.json");
    client.terminate();
  });

  test("is not selected when only others are offered", async () => {
    const { client } = await tryOpen(`${server.url}/ws`, { protocols: ["unknown.example"] });
    assert.notEqual(client?.protocol, "roomcast.json");
    client?.terminate();
  });

  test("begins with the id, then hello with the same id", async () => {
    const { client, id, sid } = await enter();
    assert.equal(sid, id);
    client.terminate();
  });

  test("acknowledges requests by number, and only those", async () => {
    const { client, id } = await enter();
    client.send('[{"ack":7},"join","asked"]');
    const frames = [await nextEvent(client), await nextEvent(client)];
    const answer = frames.find(([head]) => typeof head === "object");
    const [, welcome] = frames.find(([head]) => head === "welcome");
    assert.deepEqual(answer[0], { re: 7 });
    assert.deepEqual([welcome.room, welcome.id], ["asked", id]);
    client.send('["room","asked","no answer wanted"]', '[{"ack":0},"others","nobody there"]');
    assert.deepEqual(present(await nextEvent(client)), [
      "room",
      { from: id, room: "asked", text: "no answer wanted", via: "websocket" },
    ]);
    assert.deepEqual((await nextEvent(client))[0], { re: 0 });
    client.terminate();
  });

  test("carries the sender's tag", async () => {
    const { client, id } = await enter();
    client.send('["everyone","hello","t-1"]');
    assert.deepEqual(present(await nextEvent(client)), [
      "everyone",
      { from: id, text: "hello", tag: "t-1", via: "websocket" },
    ]);
    client.terminate();
  });

  for (const frame of ["nonsense", "{}", "[]", "[7]", "null", '[{"ack":"x"},"join"]', '[{"binary":-1},"x"]']) {
    test(`${frame} does not affect other clients`, async () => {
      const [good, bad] = [await enter(), await enter()];
      bad.client.send(frame);
      good.client.send('["room-others","empty","x"]', '[{"ack":1},"others","still here"]');
      assert.deepEqual((await nextEvent(good.client))[0], { re: 1 });
      good.client.terminate();
      bad.client.terminate();
    });
  }
});
