import { once } from "../script.js";

export const subject = "remote sockets";

export const scripts = [
  once("fetches all, with rooms, data and handshake", async (stage) => {
    const first = await stage.join("a", { auth: { name: "first" } });
    const second = await stage.join("b");
    await first.ask({ do: "setData" }, "what it is", { color: "red" });
    await second.ask({ do: "join", rooms: ["red", "blue"] });
    await first.ask({ do: "sockets", at: "io" });
  }),
  once("fetches those in a room, and those outside a room", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await second.ask({ do: "join", rooms: ["muted"] });
    await third.ask({ do: "sockets", at: "io", by: [{ in: ["red"] }] });
    await third.ask({ do: "sockets", at: "io", by: [{ in: ["red"] }, { except: ["muted"] }] });
    await third.ask({ do: "sockets", at: "io", by: [{ in: ["nobody"] }] });
    await third.ask({ do: "sockets", at: "broadcast" });
  }),
  once("fetches those of another namespace", async (stage) => {
    const first = await stage.join("a");
    await stage.join("b", { namespace: "/other" });
    await first.ask({ do: "sockets", at: "/other" });
  }),
  once("does not fetch disconnected sockets", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await second.send("41");
    await stage.noted(4);
    await first.ask({ do: "sockets", at: "io" });
  }),
  once("makes them join and leave rooms", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await second.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "socketsJoin", at: "io", by: [{ in: ["red"] }], rooms: ["blue", "green"] });
    await first.ask({ do: "sockets", at: "io" });
    await first.ask({ do: "socketsJoin", at: "broadcast", rooms: ["yellow"] });
    await first.ask({ do: "socketsLeave", at: "io", rooms: ["green", "yellow"] });
    await first.ask({ do: "sockets", at: "io" });
    await first.ask({ do: "emit", at: "io", by: [{ to: ["blue"] }] }, "news");
    for (const peer of [second, third]) await peer.sync();
  }),
  once("disconnects them from the namespace", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await first.ask({ do: "disconnectSockets", at: "broadcast" });
    await second.hear();
    await stage.noted(4);
    await second.connect();
  }),
  once("closes their connections", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await second.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "disconnectSockets", at: "io", by: [{ in: ["red"] }], close: true });
    await second.closed();
    await stage.noted(4);
  }),
];
