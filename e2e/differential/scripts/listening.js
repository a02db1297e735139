import { each, once } from "../script.js";

export const subject = "listening";

export const scripts = [
  each("two handlers of one event, in order", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("twice");
    await peer.hear(2);
  }),
  each("a one-time handler", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("once", 1);
    await peer.emit("once", 2);
    await peer.sync();
  }),
  once("a one-time handler per socket", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    for (const peer of [first, second, first]) await peer.emit("once", peer.name);
    for (const peer of [first, second]) await peer.sync();
  }),
  each("a handler added and removed later", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("later", 1);
    await peer.ask({ do: "on" }, "later");
    await peer.emit("later", 2);
    await peer.sync();
    await peer.ask({ do: "off" }, "later");
    await peer.emit("later", 3);
    await peer.sync();
  }),
  once("a handler registered twice is called twice", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "on" }, "later");
    await peer.ask({ do: "on" }, "later");
    await peer.emit("later", 1);
    await peer.sync();
  }),
  once("a catch-all gets every event, with or without handler", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "onAny" });
    await peer.emit("echo", 1, 2);
    await peer.emit("unheard of");
    await peer.send('427["echo","with an answer"]');
    await stage.noted(4);
    await peer.hear(2);
    await peer.ask({ do: "offAny" });
    await peer.emit("echo", 3);
    await peer.hear();
    await stage.noted(5);
  }),
  once("a catch-all gets an event before a middleware rejects it", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "onAny" });
    await peer.emit("forbidden", 1);
    await stage.noted(4);
    await peer.sync();
  }),
  each("an outgoing catch-all gets every event", async (stage) => {
    const [peer, other] = await stage.joinAll(["a", "b"]);
    await peer.ask({ do: "onAnyOutgoing" });
    await peer.emit("echo", 1, 2);
    await peer.ask({ do: "emit" }, "to itself", 1);
    await other.ask({ do: "emit", at: "io" }, "to all");
    await other.ask({ do: "emit", at: "broadcast" }, "to the others", 1, 2, 3);
    await peer.ask({ do: "emit", at: "broadcast" }, "not to itself");
    await other.sync();
    await peer.sync();
    await peer.ask({ do: "offAnyOutgoing" });
    await peer.ask({ do: "emit" }, "unheard", 1);
    await stage.notedOnly(6);
  }),
  once("an outgoing catch-all gets no acks", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "onAnyOutgoing" });
    await peer.send('427["echo",1]');
    await peer.hear();
    await stage.notedOnly(1);
  }),
  once("an outgoing catch-all gets broadcasts, events with acks, and binary", async (stage) => {
    const [peer, other] = await stage.joinAll(["a", "b"]);
    await peer.ask({ do: "onAnyOutgoing" });
    await peer.ask({ do: "join", rooms: ["red"] });
    await other.ask({ do: "emit", at: "io", by: [{ to: ["red"] }] }, "to a room", 1);
    await other.ask({ do: "emit", at: "io", by: [{ except: ["red"] }] }, "not to it");
    await other.ask({ do: "emit", at: "io", by: [{ to: ["nobody"] }] }, "to an empty room");
    await peer.send('451-["echo",{"_placeholder":true,"num":0}]', Buffer.from([1]));
    await peer.put('42["do",{"do":"emit","ack":true},"a question",1]');
    await peer.sync();
    await stage.noted(5);
  }),
  once("an outgoing catch-all is per namespace, and ends with its socket", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "onAnyOutgoing" });
    await peer.connect("/other");
    await peer.ask({ do: "emit" }, "in another", 1);
    await peer.send("41");
    await stage.noted(4);
    await peer.connect();
    await peer.ask({ do: "emit" }, "by another", 1);
    await stage.notedOnly(5);
  }),
  each("an event rejected by a middleware reaches no handler", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("forbidden", 1);
    await stage.noted(3);
    await peer.send('427["forbidden","with an answer"]');
    await peer.sync();
    await stage.noted(5);
  }),
  once("handlers of a socket end with it", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "on" }, "later");
    await peer.send("41");
    await stage.noted(3);
    await peer.connect();
    await peer.emit("later", 1);
    await peer.sync();
  }),
];
