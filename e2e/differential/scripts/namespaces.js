import { each, once } from "../script.js";

export const subject = "namespaces";

const SECRET = { token: "secret" };

export const scripts = [
  each("CONNECT to the main namespace", async (stage) => {
    const peer = await stage.engine("a");
    await peer.connect();
    await stage.noted(1);
  }),
  ...[
    ["no payload", "40/greeting,"],
    ["no comma", "40/greeting"],
    ["an empty object", "40/greeting,{}"],
    ["a number", "40/greeting,5"],
    ["an object", '40/greeting,{"nested":{"list":[1,null,"é"]},"token":"123"}'],
    ["a query", "40/greeting?token=abc,"],
    ["a query and a payload", '40/greeting?token=abc,{"b":2}'],
  ].map(([what, packet]) =>
    each(`CONNECT with ${what}`, async (stage) => {
      const peer = await stage.engine("a");
      peer.full = "/greeting";
      await peer.send(packet);
      await peer.hear();
      await peer.quiet(30);
    }),
  ),
  each("two namespaces on one connection are two sockets", async (stage) => {
    const peer = await stage.join("a");
    await peer.connect("/other");
    await peer.emit("echo", "in the other");
    await peer.hear();
    peer.namespace = "";
    await peer.emit("echo", "in the main one");
    await peer.hear();
    await stage.noted(2);
  }),
  ...["/unknown", "/Other", "/other/", "/other2", "//", "/o", "/with space", "/é"].map((name) =>
    each(`CONNECT to ${name}, which nobody knows`, async (stage) => {
      const peer = await stage.engine("a");
      await peer.connect(name);
      await peer.connect("/other");
    }),
  ),
  each("CONNECT to an unknown namespace with a payload", async (stage) => {
    const peer = await stage.engine("a");
    await peer.connect("/unknown", { a: 1 });
  }),
  each("CONNECT to a namespace that was joined", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("40");
    await peer.closed();
    await stage.noted(3);
  }),
  ...[
    ["only a message", { message: "no" }],
    ["a message and data", { data: { code: 7, list: [1, "two"] }, message: "no" }],
    ["data that is a string", { data: "why" }],
    ["data that is a number", { data: 0 }],
    ["data that is null", { data: null }],
    ["data that is false", { data: false }],
    ["a message that needs escapes", { message: 'say "no"\n\u2028' }],
    ["an empty message", { message: "" }],
    ["no auth at all", undefined],
  ].map(([what, auth]) =>
    each(`rejected by a middleware with ${what}`, async (stage) => {
      const peer = await stage.engine("a");
      await peer.connect("/guarded", auth);
      await stage.noted(1);
    }),
  ),
  each("accepted by both middlewares, in order", async (stage) => {
    const peer = await stage.join("a", { namespace: "/guarded", auth: SECRET });
    await stage.noted(3);
    await peer.emit("echo", "in");
    await peer.hear();
  }),
  each("a room joined by a middleware is kept", async (stage) => {
    const auth = { join: "lounge", ...SECRET, wait: 50 };
    const peer = await stage.join("a", { namespace: "/guarded", auth });
    await peer.ask({ do: "rooms" });
    await peer.ask({ do: "emit", at: "/guarded", by: [{ to: ["lounge"] }] }, "to the room", 1);
    await stage.noted(3);
  }),
  each("a rejected client is in no room", async (stage) => {
    const peer = await stage.join("a", { namespace: "/guarded", auth: { join: "lounge", token: "wrong" } });
    await peer.connect("/guarded", SECRET);
    await peer.ask({ do: "sockets", at: "/guarded", by: [{ in: ["lounge"] }] });
    await peer.ask({ do: "rooms" });
    await stage.noted(4);
  }),
  each("accepted after a delay", async (stage) => {
    await stage.join("a", { namespace: "/guarded", auth: { ...SECRET, wait: 50 } });
    await stage.noted(3);
  }),
  each("rejected, and accepted at the second attempt", async (stage) => {
    const peer = await stage.join("a", { namespace: "/guarded", auth: { token: "wrong" } });
    await peer.connect("/guarded", SECRET);
    await stage.noted(4);
  }),
  each("joining another namespace while a middleware is pending", async (stage) => {
    const peer = await stage.engine("a");
    peer.full = "/guarded";
    await peer.send(`40/guarded,{"token":"secret","wait":1000}`);
    await peer.connect("/other");
    await peer.hear();
  }),
  each("an event while the middleware is pending", async (stage) => {
    const peer = await stage.engine("a");
    peer.full = "/guarded";
    await peer.send('40/guarded,{"token":"secret","wait":800}');
    await stage.settled();
    await peer.send('42/guarded,["echo","early"]');
    await peer.hear(2);
  }),
  each("a client that disconnects while a middleware is pending", async (stage) => {
    const peer = await stage.engine("a");
    await peer.send('40/guarded,{"token":"secret","wait":800}');
    if (peer.polling) await peer.push("1");
    else await peer.cut();
    await stage.noted(2, 1200);
  }),
  once("an event in the payload of its CONNECT", async (stage) => {
    const peer = await stage.engine("a");
    await peer.send("40", '42["echo","early"]');
    await peer.hear(2);
  }, { carriers: ["polling"] }),
  once("two CONNECTs to one namespace in one payload", async (stage) => {
    const peer = await stage.engine("a");
    await peer.send("40", "40");
    await peer.hear();
    await peer.quiet(50);
  }, { carriers: ["polling"] }),
  once("CONNECTs to two namespaces in one payload", async (stage) => {
    const peer = await stage.engine("a");
    await peer.send("40", "40/other,");
    peer.full = "/";
    await peer.hear();
    peer.full = "/other";
    await peer.hear();
  }, { carriers: ["polling"] }),
  ...['42["echo"]', '42/other,["echo"]', "431[]", "41", "41/other,", '44{"message":"no"}'].map((packet) =>
    each(`${packet} without any CONNECT`, async (stage) => {
      const peer = await stage.engine("a");
      await peer.send(packet);
      await peer.closed();
    }),
  ),
  ...['42/other,["echo"]', "43/other,1[]", "41/other,", '42/unknown,["echo"]', '44{"message":"no"}'].map((packet) =>
    each(`${packet} of a client that has only joined the main namespace`, async (stage) => {
      const peer = await stage.join("a");
      await peer.send(packet);
      await peer.closed();
      await stage.noted(3);
    }),
  ),
];
