import { each, once } from "../script.js";

export const subject = "parent namespaces";

const cleaned = { "clean-up": true };

export const scripts = [
  each("an emit in the parent reaches all child namespaces", async (stage) => {
    const first = await stage.join("a", { namespace: "/dynamic-11" });
    const second = await stage.join("b", { namespace: "/dynamic-12" });
    const stranger = await stage.join("c", { namespace: "/other" });
    await stranger.ask({ do: "emit", at: "parent" }, "news", 1, { two: [3] });
    for (const peer of [first, second, stranger]) await peer.sync();
  }),
  once("to rooms of all child namespaces, and except a room", async (stage) => {
    const first = await stage.join("a", { namespace: "/dynamic-11" });
    const second = await stage.join("b", { namespace: "/dynamic-12" });
    const third = await stage.join("c", { namespace: "/dynamic-12" });
    for (const peer of [first, second]) await peer.ask({ do: "join", rooms: ["red"] });
    await third.ask({ do: "emit", at: "parent", by: [{ to: ["red"] }] }, "for the red");
    await third.ask({ do: "emit", at: "parent", by: [{ except: ["red"] }] }, "for the others");
    for (const peer of [first, second, third]) await peer.sync();
  }),
  once("a reserved name", async (stage) => {
    const peer = await stage.join("a", { namespace: "/dynamic-11" });
    await peer.ask({ do: "emit", at: "parent" }, "connect", 1);
  }),
  once("a namespace stays when the last client leaves it", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.join("b", { namespace: "/dynamic-21" });
    await second.send("41/dynamic-21,");
    await stage.noted(4);
    await stage.settled();
    await first.ask({ do: "children" });
    await second.connect("/dynamic-21");
  }, { alone: true }),
  once("with clean-up, it is removed when the last client leaves", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.join("b", { namespace: "/dynamic-21" });
    const third = await stage.join("c", { namespace: "/dynamic-21" });
    await first.ask({ do: "children" });
    await second.send("41/dynamic-21,");
    await stage.noted(5);
    await stage.settled();
    await first.ask({ do: "children" });
    await third.send("41/dynamic-21,");
    await stage.noted(7);
    await stage.settled();
    await first.ask({ do: "children" });
  }, { flags: cleaned }),
  each("with clean-up, it is removed when the connection is cut", async (stage) => {
    const first = await stage.join("a");
    const second = await stage.join("b", { namespace: "/dynamic-22" });
    await second.cut();
    await stage.noted(4);
    await stage.settled();
    await first.ask({ do: "children" });
  }, { flags: cleaned }),
  once("with clean-up, a later client creates it again", async (stage) => {
    const first = await stage.join("a", { namespace: "/dynamic-23" });
    await first.send("41/dynamic-23,");
    await stage.noted(3);
    await stage.settled();
    await first.connect("/dynamic-23");
    await first.emit("echo", "anew");
    await first.hear();
    await first.ask({ do: "emit", at: "parent" }, "news");
    await first.ask({ do: "children" });
  }, { flags: cleaned }),
  once("with clean-up, a static one stays", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.send("41/other,");
    await stage.noted(3);
    await stage.settled();
    await peer.connect("/other");
  }, { flags: cleaned }),
];
