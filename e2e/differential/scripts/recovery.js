import { each, once } from "../script.js";

export const subject = "recovery";
export const flags = { recovery: true };

/** A second connection of the same client, with the recovery token of the first */
async function back(stage, peer, shown = {}) {
  const again = await stage.engine(`${peer.name} again`.replace(" ", "-"));
  again.namespace = "";
  await again.send(`40${JSON.stringify({ pid: peer.pid, offset: peer.offset, ...shown })}`);
  return again;
}

export const scripts = [
  each("the response to CONNECT has a recovery token", async (stage) => {
    await stage.join("a");
  }),
  once("events end with an offset", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("echo", 1);
    await peer.hear();
    await peer.ask({ do: "emit", by: ["volatile"] }, "without", 1);
  }),
  once("missed events arrive before the response, in order", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await first.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "emit" }, "heard", 1);
    await first.cut();
    await stage.noted(4);
    await second.ask({ do: "emit", at: "io" }, "for all", 1);
    await second.ask({ do: "emit", at: "io", by: [{ to: ["red"] }] }, "for the room", 2);
    await second.ask({ do: "emit", at: "io", by: [{ to: ["blue"] }] }, "for another room", 3);
    await second.ask({ do: "emit", at: "io", by: ["volatile"] }, "volatile", 4);
    const again = await back(stage, first);
    await again.hear(3);
    await again.put('42["do",{"do":"rooms"}]');
    await again.sync();
  }),
  once("without missed events", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "heard", 1);
    await peer.cut();
    await stage.noted(3);
    const again = await back(stage, peer);
    await again.hear();
  }),
  once("with an unknown recovery token", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "heard", 1);
    await peer.cut();
    await stage.noted(3);
    const again = await back(stage, peer, { pid: "nobody" });
    await again.hear();
  }),
  once("after a disconnect by the client", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "heard", 1);
    await peer.send("41");
    await stage.noted(3);
    const again = await back(stage, peer);
    await again.hear();
  }),
  once("after a disconnect by the server", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "heard", 1);
    await peer.put('42["do",{"do":"disconnect"}]');
    await peer.hear();
    await stage.noted(3);
    const again = await back(stage, peer);
    await again.hear();
  }),
];
