import { once } from "../script.js";

export const subject = "upgrade";
export const flags = { "upgrade-timeout": 1500 };

const poller = (name, play) =>
  once(name, async (stage) => play(await stage.join("a"), stage), { carriers: ["polling"] });

export const scripts = [
  poller("a complete one, with an event before and after", async (peer) => {
    await peer.emit("echo", "before");
    await peer.hear();
    await peer.upgrade();
    await peer.emit("echo", "after");
    await peer.hear();
  }),
  poller("events emitted during it arrive after it", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send("2probe");
    await other.hear();
    await peer.fetch();
    await peer.push('42["echo","meanwhile"]');
    await other.send("5");
    await other.hear();
  }),
  poller("the old transport afterwards", async (peer) => {
    await peer.upgrade();
    peer.line("GET");
    peer.answer(await peer.poll());
    await peer.push('42["echo","late"]');
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  poller("a second WebSocket afterwards", async (peer) => {
    await peer.upgrade();
    const other = await peer.stage.candidate(peer);
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  poller("a second WebSocket during the first's probe", async (peer) => {
    const first = await peer.stage.candidate(peer);
    await first.send("2probe");
    await first.hear();
    const second = await peer.stage.candidate(peer, "c");
    await second.closed();
  }),
  ...["2", "2other", "3probe", "4x", '42["echo",1]', "5", "6", "1", "x", ""].map((packet) =>
    poller(`a probe of ${packet || "no letters"}`, async (peer) => {
      const other = await peer.stage.candidate(peer);
      await other.send(packet);
      // Node accepts an upgrade without a probe, so the WebSocket stays open.
      await other.closed(packet === "5" ? 500 : undefined);
      await peer.emit("echo", "still here");
      await peer.hear();
    }),
  ),
  poller("binary as a probe", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send(Buffer.from([1]));
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  poller("a probe and then something else", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send("2probe");
    await other.hear();
    await other.send("4x");
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.until('42["echo"');
  }),
  poller("one that never begins", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  poller("one that never completes", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send("2probe");
    await other.hear();
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.until('42["echo"');
  }),
  poller("one cut before its probe", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.cut();
    await peer.stage.settled();
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  poller("one cut after its probe", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send("2probe");
    await other.hear();
    await other.cut();
    await peer.stage.settled();
    await peer.emit("echo", "still here");
    await peer.until('42["echo"');
  }),
  poller("one after a failed one", async (peer) => {
    const other = await peer.stage.candidate(peer);
    await other.send("x");
    await other.closed();
    await peer.upgrade();
    await peer.emit("echo", "on the second");
    await peer.hear();
  }),
  poller("a session that ends during it", async (peer, stage) => {
    const other = await peer.stage.candidate(peer);
    await other.send("2probe");
    await other.hear();
    await peer.push("1");
    await other.closed();
    await stage.noted(3);
  }),
  once("of a session that began as WebSocket", async (stage) => {
    const peer = await stage.join("a");
    const other = await peer.stage.candidate(peer);
    await other.closed();
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
];
