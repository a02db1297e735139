import { each, once } from "../script.js";

export const subject = "acks";

const hole = '{"_placeholder":true,"num":0}';
const ask = (by = [], at) => ({ do: "emit", ack: true, by, ...(at && { at }) });

/** Sends a command without waiting for its result, which has the ack id 900 */
const wish = (peer, command, ...args) => peer.send(`42${peer.namespace}900${JSON.stringify(["do", command, ...args])}`);

export const scripts = [
  ...[
    ["no arguments", '421["echo"]'],
    ["one argument", '421["echo","x"]'],
    ["several arguments", '42456["echo",1,{"two":[3]},null]'],
    ["the number zero", '420["echo",1]'],
    ["a large number", '4299999999["echo",1]'],
    ["the largest exact double", '429007199254740991["echo",1]'],
    ["a number with leading zeros", '42007["echo",1]'],
  ].map(([what, packet]) =>
    each(`to the client, with ${what}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.send(packet);
      await peer.sync();
    }),
  ),
  once("to the client, with an id beyond the precision of a double", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('4218446744073709551617["echo",1]');
    await peer.sync();
  }),
  each("to the client, in another namespace", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.send('42/other,5["echo","x"]');
    await peer.sync();
  }),
  each("to the client, in completion order of handlers", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('421["wait",400]', '422["wait",10]', '423["echo"]');
    await peer.hear(3);
  }),
  each("of an event without handler", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('421["unheard of"]');
    await peer.sync();
  }),
  once("of a handler without an answer", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('421["unanswered"]');
    await peer.sync();
  }),
  each("from the client, with one argument", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask(), "question", 1);
    await peer.reply(await peer.asked(), "answer");
    await peer.hear();
  }),
  each("from the client, with several and with none", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask([{ timeout: 15_000 }]), "question", 1);
    await peer.reply(await peer.asked(), 1, { two: [3] }, null);
    await peer.hear();
    await wish(peer, ask([{ timeout: 15_000 }]), "question", 2);
    await peer.reply(await peer.asked());
    await peer.hear();
  }),
  once("from the client, with bytes", async (stage) => {
    const peer = await stage.join("a");
    await peer.send(`42900["do",{"do":"emit","ack":true},"question"]`);
    const id = await peer.asked();
    await peer.put(`461-${id}["x",{"of":${hole}}]`, Buffer.from([1]));
    const outcome = await peer.take();
    // The two applications format binary differently; only the arrival of the answer matters.
    peer.line(outcome?.startsWith?.("4") ? "an answer" : String(outcome));
  }),
  each("from the client, in another namespace", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await wish(peer, ask(), "question", 1);
    await peer.reply(await peer.asked(), "answer");
    await peer.hear();
  }),
  each("from the client, too late", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask([{ timeout: 60 }]), "question", 1);
    const id = await peer.asked();
    await peer.hear();
    await peer.reply(id, "late");
    await peer.sync();
  }),
  once("from the client, twice", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask(), "question", 1);
    const id = await peer.asked();
    await peer.reply(id, "first");
    await peer.reply(id, "second");
    await peer.hear();
    await peer.sync();
  }),
  each("from the client, with an unknown id", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("43123456[1]");
    await peer.sync();
  }),
  once("from a different client", async (stage) => {
    const [asked, other] = await stage.joinAll(["a", "b"]);
    await wish(asked, ask([{ timeout: 2000 }]), "question", 1);
    const id = await asked.asked();
    await other.reply(id, "not yours");
    await other.sync();
    await asked.hear();
  }),
  once("two at once, answered in reverse order", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('42901["do",{"do":"emit","ack":true},"first"]', '42902["do",{"do":"emit","ack":true},"second"]');
    const [first, second] = [await peer.asked(), await peer.asked()];
    await peer.reply(second, "to the second");
    await peer.hear();
    await peer.reply(first, "to the first");
    await peer.hear();
  }),
  each("of a broadcast, from all", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(first, ask([{ timeout: 15_000 }], "io"), "question", 1);
    await first.reply(await first.asked(), "of a");
    await second.reply(await second.asked(), "of b");
    await first.hear();
  }),
  each("of a broadcast, from one of two", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(first, ask([{ timeout: 2000 }], "io"), "question", 1);
    await second.reply(await second.asked(), "of b");
    await first.hear(2);
  }),
  once("of a broadcast, without answers", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(first, ask([{ timeout: 300 }], "io"), "question", 1);
    await first.hear(2);
    await second.sync();
  }),
  once("of a broadcast without recipients", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask([{ to: ["nobody is here"] }, { timeout: 15_000 }], "io"), "question", 1);
    await peer.hear();
  }),
  once("of a broadcast to a room", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await second.ask({ do: "join", rooms: ["red"] });
    await wish(first, ask([{ to: ["red"] }, { timeout: 15_000 }], "io"), "question", 1);
    await second.reply(await second.asked(), "of b", "and more");
    await first.hear();
    await third.sync();
  }),
  once("of a broadcast to other clients", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(first, ask([{ timeout: 15_000 }], "broadcast"), "question", 1);
    await second.reply(await second.asked(), "of b");
    await first.hear();
  }),
  once("of a broadcast, answered without arguments", async (stage) => {
    const peer = await stage.join("a");
    await wish(peer, ask([{ timeout: 15_000 }], "io"), "question", 1);
    await peer.reply(await peer.asked());
    await peer.hear();
  }),
  once("of a broadcast to a client that disconnects", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(first, ask([{ timeout: 400 }], "broadcast"), "question", 1);
    await second.hear();
    await second.cut();
    await stage.settled();
    await first.hear();
  }),
  once("of a client that disconnects", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await wish(second, ask([{ timeout: 2000 }]), "question", 1);
    await second.asked();
    await second.cut();
    await stage.noted(4);
    await first.sync();
  }),
];
