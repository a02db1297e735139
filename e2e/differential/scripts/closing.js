import { each, once } from "../script.js";

export const subject = "leaving and closing";

export const scripts = [
  each("the client leaves its only namespace", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red"] });
    await peer.send("41");
    await stage.noted(3);
    await peer.connect();
    await stage.noted(4);
  }),
  each("the client leaves one of two", async (stage) => {
    const peer = await stage.join("a");
    await peer.connect("/other");
    await peer.send("41/other,");
    await stage.noted(4);
    peer.namespace = "";
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  once("without a comma", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.send("41/other");
    await stage.noted(3);
  }),
  each("the client leaves twice", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("41");
    await stage.noted(3);
    await peer.send("41");
    await peer.closed();
  }),
  once("the client leaves and joins in one payload", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("41", "40");
    await peer.hear();
  }, { carriers: ["polling"] }),
  each("the server disconnects it from the namespace", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red", "blue"] });
    await peer.put('42["do",{"do":"disconnect"}]');
    await peer.hear();
    await stage.noted(3);
    await peer.connect();
  }),
  each("the server disconnects it from one of two", async (stage) => {
    const peer = await stage.join("a");
    await peer.connect("/other");
    await peer.put('42/other,["do",{"do":"disconnect"}]');
    await peer.hear();
    await stage.noted(4);
    peer.namespace = "";
    await peer.emit("echo", "still here");
    await peer.hear();
  }),
  each("the server closes its connection", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red"] });
    await peer.put('42["do",{"do":"disconnect","close":true}]');
    await peer.closed();
    await stage.noted(3);
  }),
  once("the server closes the connection of two namespaces", async (stage) => {
    const peer = await stage.join("a");
    await peer.connect("/other");
    await peer.put('42/other,["do",{"do":"disconnect","close":true}]');
    await peer.closed();
    await stage.noted(6);
  }),
  each("an event after the disconnect of its namespace", async (stage) => {
    const peer = await stage.join("a");
    await peer.put('42["do",{"do":"disconnect"}]');
    await peer.hear();
    await peer.send('42["echo","late"]');
    await peer.closed(250);
  }),
  once("a cut connection", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red"] });
    await peer.connect("/other");
    await peer.cut();
    await stage.noted(6);
  }),
  once("an aborted GET", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "join", rooms: ["red"] });
    await peer.cut();
    await stage.noted(3);
  }, { carriers: ["polling"] }),
  each("by an engine close packet", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("1");
    if (!peer.polling) {
      await stage.settled();
      await peer.cut();
    }
    await stage.noted(3);
  }),
  once("acks of a handler that ends after its socket", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('421["wait",1000]');
    await stage.settled();
    await peer.send("41");
    await stage.noted(3);
    await peer.quiet(1300);
  }),
  once("an event followed by a DISCONNECT in one payload", async (stage) => {
    const peer = await stage.join("a");
    await peer.send('421["echo",1]', "41");
    await stage.noted(3);
    await peer.quiet(50);
  }, { carriers: ["polling"] }),
];
