import { each, once } from "../script.js";

export const subject = "rooms";

export const scripts = [
  each("a socket is in its own room", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "rooms" });
  }),
  each("join and leave", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red", "blue", "red"] });
    await peer.ask({ do: "leave", rooms: ["red", "never joined"] });
    await peer.ask({ do: "rooms" });
  }),
  once("rooms of any name", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["", " ", "é", "x".repeat(300), "__proto__"] });
    await peer.ask({ do: "emit", at: "io", by: [{ to: ["__proto__"] }] }, "news");
  }),
  each("to a room reaches its members", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await first.ask({ do: "join", rooms: ["red"] });
    await second.ask({ do: "join", rooms: ["red"] });
    await third.ask({ do: "emit", at: "io", by: [{ to: ["red"] }] }, "news", 1);
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("several rooms reach each member once", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await first.ask({ do: "join", rooms: ["red", "blue"] });
    await second.ask({ do: "join", rooms: ["blue"] });
    await third.ask({ do: "emit", at: "io", by: [{ to: ["red", "blue"] }, { in: ["red"] }] }, "news", 1);
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("from a socket to a room excludes it", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "emit", by: [{ to: ["red"] }] }, "news", 1);
    for (const peer of [first, second]) await peer.sync();
  }),
  once("from a socket in a room excludes it too", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "emit", by: [{ in: ["red"] }] }, "news", 1);
    for (const peer of [first, second]) await peer.sync();
  }),
  once("except a room", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await second.ask({ do: "join", rooms: ["muted"] });
    await first.ask({ do: "emit", at: "io", by: [{ except: ["muted"] }] }, "news", 1);
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("to a room except another", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await second.ask({ do: "join", rooms: ["muted"] });
    await third.ask({ do: "emit", at: "io", by: [{ to: ["red"] }, { except: ["muted"] }] }, "news", 1);
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("from a socket, except a room", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await second.ask({ do: "join", rooms: ["muted"] });
    await first.ask({ do: "emit", by: [{ except: ["muted"] }] }, "news", 1);
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("to an empty room", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit", at: "io", by: [{ to: ["nobody"] }] }, "news");
  }),
  each("to the room of a socket's own id", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await first.ask({ do: "emit", at: "io", by: [{ to: [second.id] }] }, "for b", 1);
    await second.sync();
  }),
  once("except the room of a socket's own id", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await first.ask({ do: "emit", at: "io", by: [{ except: [second.id] }] }, "not for b", 1);
    await second.sync();
  }),
  once("leaving the own room", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await second.ask({ do: "leave", rooms: [second.id] });
    await first.ask({ do: "emit", at: "io", by: [{ to: [second.id] }] }, "for b", 1);
    await second.sync();
  }),
  once("joining another socket's own room", async (stage) => {
    const [first, second, third] = await stage.joinAll(["a", "b", "c"]);
    await second.put(`42["do",${JSON.stringify({ do: "join", rooms: [third.id] })}]`);
    await second.sync();
    await first.ask({ do: "emit", at: "io", by: [{ to: [third.id] }] }, "for c", 1);
    for (const peer of [second, third]) await peer.sync();
  }),
  once("rooms are per namespace", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.join("b", { namespace: "/other" });
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await first.ask({ do: "emit", at: "io", by: [{ to: ["red"] }] }, "news");
    await first.ask({ do: "emit", at: "/other", by: [{ to: ["red"] }] }, "other news");
    await second.sync();
  }),
  each("a disconnected socket leaves its rooms", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    await second.ask({ do: "join", rooms: ["red"] });
    await second.send("41");
    await stage.noted(4);
    await first.ask({ do: "emit", at: "io", by: [{ to: ["red"] }] }, "news");
    await second.connect();
    await second.ask({ do: "rooms" });
  }),
];
