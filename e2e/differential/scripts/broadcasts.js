import { each, once } from "../script.js";

export const subject = "broadcasts";

export const scripts = [
  each("to all", async (stage) => {
    const peers = await stage.joinAll(["a", "b", "c"]);
    await peers[0].ask({ do: "emit", at: "io" }, "news", 1, { two: 3 });
    for (const peer of peers) await peer.sync();
  }),
  each("to all others", async (stage) => {
    const peers = await stage.joinAll(["a", "b", "c"]);
    await peers[0].ask({ do: "emit", at: "broadcast" }, "news", 1);
    for (const peer of peers) await peer.sync();
  }),
  once("to clients over every carrier", async (stage) => {
    const peers = [];
    for (const carrier of ["polling", "websocket", "upgraded"]) peers.push(await stage.join(carrier, { carrier }));
    await peers[0].ask({ do: "emit", at: "io" }, "news", "é");
    for (const peer of peers) await peer.sync();
  }),
  once("to another namespace", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.join("b", { namespace: "/other" });
    await first.ask({ do: "emit", at: "/other" }, "news", 1);
    await second.sync();
  }),
  once("to a client in both namespaces", async (stage) => {
    const peer = await stage.join("a");
    await peer.connect("/other");
    await peer.ask({ do: "emit", at: "io" }, "in the main one");
    await peer.ask({ do: "emit", at: "/other" }, "in the other");
  }),
  once("on the local node only", async (stage) => {
    const peers = await stage.joinAll(["a", "b"]);
    await peers[0].ask({ do: "emit", at: "io", by: ["local"] }, "news");
    await peers[0].ask({ do: "emit", by: ["local", { to: [peers[1].id] }] }, "news of a");
    await peers[1].sync();
  }),
  once("volatile", async (stage) => {
    const peers = await stage.joinAll(["a", "b"]);
    await peers[0].ask({ do: "emit", at: "io", by: ["volatile"] }, "now", 1);
    await peers[1].sync();
  }),
  once("keep their order with events to a single client", async (stage) => {
    const peers = await stage.joinAll(["a", "b"]);
    for (const at of ["io", "socket", "broadcast", "io"]) await peers[0].ask({ do: "emit", at }, "news", at);
    for (const peer of peers) await peer.sync();
  }),
  once("do not reach clients that have not joined", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.engine("b");
    await first.ask({ do: "emit", at: "io" }, "news", 1);
    await second.connect();
    await second.sync();
  }),
  once("do not reach clients that have left", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await second.send("41");
    await stage.noted(4);
    await first.ask({ do: "emit", at: "io" }, "news", 1);
    await second.connect();
    await second.sync();
  }),
];
