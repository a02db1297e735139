import { once } from "../script.js";

export const subject = "websocket";

const joined = (name, play) => once(name, async (stage) => play(await stage.join("a"), stage));

export const scripts = [
  ...["9x", "abc", "2", "3", "0", "5", "6", ""].map((packet) =>
    joined(`the packet ${packet || "of no letters"}`, async (peer, stage) => {
      await peer.send(packet, '42["echo","still here"]');
      peer.lineOf(await peer.take());
      if (peer.lines.at(-1).includes("closed")) await stage.noted(3);
    }),
  ),
  joined("a close frame without a code", async (peer, stage) => {
    peer.socket.socket.close();
    await peer.closed();
    await stage.noted(3);
  }),
  joined("a close frame with a code and a reason", async (peer, stage) => {
    peer.socket.socket.close(4000, "bye");
    await peer.closed();
    await stage.noted(3);
  }),
  joined("a cut connection", async (peer, stage) => {
    await peer.cut();
    await stage.noted(3);
  }),
  joined("a ping frame is answered", async (peer) => {
    const pong = new Promise((resolve) => peer.socket.socket.once("pong", resolve));
    peer.socket.socket.ping("hello");
    peer.line(`pong: ${await pong}`);
  }),
  joined("a large event", async (peer) => {
    await peer.emit("echo", "x".repeat(200_000));
    await peer.hear();
  }),
  joined("two events in one segment keep their order", async (peer) => {
    await peer.send('42["echo",1]', '42["echo",2]');
    await peer.hear(2);
  }),
  joined("binary as base64", async (peer) => {
    await peer.send('451-["echo",{"_placeholder":true,"num":0}]', "bAQID");
    await peer.hear(2);
  }),
  joined("base64 with invalid characters", async (peer, stage) => {
    await peer.send('451-["echo",{"_placeholder":true,"num":0}]', "b!!!!");
    await peer.hear(2);
  }),
  once("an offered subprotocol", async (stage) => {
    const peer = await stage.websocket("a", "?EIO=4&transport=websocket", { protocols: ["chat"] });
    peer?.line(`chosen: ${peer.socket.protocol}`);
  }),
  once("Engine.IO only: echoes text and binary", async (stage) => {
    const peer = await stage.engine("a", { path: "/engine.io/" });
    await peer.send("4hello", Buffer.from([0, 1, 2]), "4", "4€");
    await peer.hear(4);
  }),
];
