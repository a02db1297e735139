import { each, once } from "../script.js";

export const subject = "namespaces on demand";

export const scripts = [
  each("one that matches the pattern is created, with the handlers", async (stage) => {
    const peer = await stage.join("a", { namespace: "/dynamic-1" });
    await peer.emit("echo", 1);
    await peer.hear();
    await stage.noted(1);
  }),
  ...["/dynamic-", "/dynamic-x", "/dynamic-1x", "/a/dynamic-1"].map((namespace) =>
    once(`${namespace} does not fit`, async (stage) => {
      const peer = await stage.engine("a");
      await peer.connect(namespace);
    }),
  ),
  once("two of one pattern are isolated", async (stage) => {
    const first = await stage.join("a", { namespace: "/dynamic-2" });
    const second = await stage.join("b", { namespace: "/dynamic-3" });
    await first.ask({ do: "emit", at: "/dynamic-2" }, "news");
    await second.sync();
  }),
  once("a predicate decides by the client's auth", async (stage) => {
    const peer = await stage.engine("a");
    await peer.connect("/asked-1");
    await peer.connect("/asked-1", { token: "wrong" });
    await peer.connect("/asked-1", { token: "secret" });
    await peer.emit("echo", 1);
    await peer.hear();
  }),
  once("a created one is shared by all clients", async (stage) => {
    await stage.join("a", { namespace: "/asked-2", auth: { token: "secret" } });
    const second = await stage.engine("b");
    await second.connect("/asked-2");
  }),
];
