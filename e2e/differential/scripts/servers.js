import { each, once } from "../script.js";

export const subject = "single server and shutdown";

const ending = { alone: true };

export const scripts = [
  once("an event for other servers, without any", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "serverSideEmit" }, "from another server");
    await stage.notedOnly(1);
  }),
  ...["connect", "connection", "new_namespace", "disconnect", "message"].map((name) =>
    once(`an event called ${name} for other servers`, async (stage) => {
      const peer = await stage.join("a");
      await peer.ask({ do: "serverSideEmit" }, name, 1);
    }),
  ),
  each("the server closes", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    stage.ends();
    await first.put('42["do",{"do":"closeAll"}]');
    await first.closed();
    await second.closed();
  }, { ...ending, carriers: ["websocket", "upgraded"] }),
  once("the server closes, with clients that have joined no namespace", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.engine("b");
    const third = await stage.engine("c", { carrier: "polling" });
    const parked = third.park();
    await stage.settled();
    stage.ends();
    await first.put('42["do",{"do":"closeAll"}]');
    for (const peer of [first, second]) await peer.closed();
    third.answer(await parked.response);
  }, ending),
  once("the server closes right after an event", async (stage) => {
    const peer = await stage.join("a");
    stage.ends();
    await peer.put('42["do",{"do":"emit","at":"io"},"last words"]', '42["do",{"do":"closeAll"}]');
    await peer.closed();
  }, ending),
];
