import { once } from "../script.js";

export const subject = "limits";
export const flags = { "max-payload": 100 };

const LENGTH = '42["echo",""]'.length;
const event = (length) => `42["echo","${"x".repeat(length - LENGTH)}"]`;

export const scripts = [
  once("the limit in the handshake", (stage) => stage.http("a", "?EIO=4&transport=polling")),
  ...[100, 101].map((length) =>
    once(`a POST of ${length} bytes`, async (stage) => {
      const peer = await stage.join("a", { carrier: "polling" });
      // Node cuts the connection of an oversized body, so no other request may be pending on it.
      await peer.push(event(length), { agent: false });
      if (length > 100) await stage.noted(3);
      await peer.emit("echo", "next");
      await peer.sync();
    }),
  ),
  once("a POST of 101 bytes without a declared length", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling" });
    const push = stage.beginPush(peer, {}, { agent: false });
    push.write(event(101).slice(0, 50));
    push.end(event(101).slice(50));
    peer.answer(await push.response.catch((error) => ({ status: error.code })));
    await stage.noted(3);
    await peer.emit("echo", "next");
    await peer.sync();
  }),
  once("a POST of 101 bytes while a GET is pending", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling" });
    const parked = peer.park();
    await stage.settled();
    await peer.push(event(101), { agent: false });
    peer.answer(await parked.response);
    await stage.noted(3);
    await peer.fetch();
  }),
  once("a payload of several packets of 100 bytes in all", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling" });
    await peer.push([event(33), event(33), event(32)].join("\x1e"));
    await peer.hear(3);
  }),
  once("characters count as bytes", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling" });
    await peer.push(`42["echo","${"€".repeat(29)}"]`);
    await peer.hear();
    await peer.push(`42["echo","${"€".repeat(30)}"]`);
  }),
  ...[100, 101].map((length) =>
    once(`a WebSocket message of ${length} bytes`, async (stage) => {
      const peer = await stage.join("a");
      await peer.send(event(length));
      await peer.hear();
      if (length > 100) await stage.noted(3);
    }),
  ),
  once("an attachment over the limit", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('451-["echo",{"_placeholder":true,"num":0}]', Buffer.alloc(101, 1));
    await peer.hear();
    await stage.noted(3);
  }),
  once("server messages are not limited", async (stage) => {
    const peer = await stage.join("a");
    for (const text of ["a", "b", "c"]) await peer.emit("echo", text.repeat(80));
    await peer.hear(3);
    await peer.ask({ do: "emit" }, "long", "y".repeat(30));
  }),
];
