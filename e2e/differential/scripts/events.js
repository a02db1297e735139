import { each, once } from "../script.js";

export const subject = "events";

const VALUES = [
  ["no arguments", "[\"echo\"]"],
  ["several arguments", '["echo",1,"two",[3],{"four":4}]'],
  ["null, true and false", '["echo",null,true,false]'],
  ["whole numbers", '["echo",0,-1,9007199254740991,-9007199254740991]'],
  ["fractions and exponents", '["echo",0.5,-1.25e-7,1e21,3.0]'],
  ["a number beyond the precision of a double", '["echo",12345678901234567890]'],
  ["minus zero", '["echo",-0]'],
  ["empty values", '["echo","",[],{}]'],
  ["escapes", '["echo","\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u0000"]'],
  ["characters of every width", '["echo","aé€👩‍🚀\u2028"]'],
  ["a lone surrogate", '["echo","\\ud800"]'],
  ["space between the values", '[ "echo" , 1 ,\n{ "a" : [ ] } ]'],
  ["objects in objects", `["echo",${'{"a":'.repeat(40)}1${"}".repeat(40)}]`],
  ["lists in lists", `["echo",${"[".repeat(60)}${"]".repeat(60)}]`],
  ["one key twice", '["echo",{"a":1,"a":2}]'],
  ["keys in a different order", '["echo",{"b":1,"a":2,"10":3,"9":4}]'],
  ["__proto__ as a key", '["echo",{"__proto__":{"x":1},"y":2}]'],
  ["an object like a placeholder", '["echo",{"_placeholder":true,"num":0}]'],
  ["a number as name", "[1,2,3]"],
  ["many arguments", `["echo",${Array.from({ length: 300 }, (_, index) => index)}]`],
];

export const scripts = [
  ...VALUES.map(([what, list]) =>
    each(`with ${what}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.send(`42${list}`);
      await peer.hear();
    }),
  ),
  each("in another namespace", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.emit("echo", 1, { two: 3 });
    await peer.hear();
  }),
  each("that nobody listens to", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("unheard of", 1);
    await peer.emit("echo", "next");
    await peer.hear();
  }),
  ...["", "toString", "__proto__", "constructor", "hasOwnProperty", "error", "é", "with space"].map((name) =>
    once(`nobody listens to, of the name ${JSON.stringify(name)}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.emit(name, 1);
      await peer.emit("echo", "next");
      await peer.hear();
    }),
  ),
  each("a hundred in order", async (stage) => {
    const peer = await stage.join("a");
    await peer.send(...Array.from({ length: 100 }, (_, index) => `42["echo",${index}]`));
    await peer.hear(100);
  }),
  each("from the server, of several arguments", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "news", 1, "two", { three: [null, "é"] });
  }),
  each("from the server, without arguments", async (stage) => {
    const peer = await stage.join("a");
    await peer.ask({ do: "emit" }, "news");
  }),
  once("from the server, in another namespace", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.ask({ do: "emit" }, "news", 1);
  }),
  ...["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"].map((name) =>
    once(`the server may not call one ${name}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.ask({ do: "emit" }, name, 1);
      await peer.ask({ do: "emit", at: "io" }, name, 1);
    }),
  ),
  each("a middleware changes name and arguments of an event", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("rewritten", 1, { two: [] });
    await peer.hear();
    await peer.emit("rewritten");
    await peer.hear();
  }),
  once("volatile, right after another event", async (stage) => {
    const peer = await stage.join("a");
    const [first, second] = ['42["do",{"do":"emit"},"first",1]', '42["do",{"do":"emit","by":["volatile"]},"second",1]'];
    // In one POST: two WebSocket messages may be read separately, with a write between them.
    const parked = peer.park();
    await stage.settled();
    await peer.push(`${first}\x1e${second}`);
    peer.answer(await parked.response);
    await peer.emit("echo", "next");
    await peer.until('42["echo"');
  }, { carriers: ["polling"] }),
  each("volatile, to a client that is ready", async (stage) => {
    const peer = await stage.join("a");
    if (peer.polling) {
      // Only a pending GET receives it.
      const parked = peer.park();
      await stage.settled();
      await peer.put('42["do",{"do":"emit","by":["volatile"]},"now",1]');
      peer.answer(await parked.response);
    } else {
      await peer.ask({ do: "emit", by: ["volatile"] }, "now", 1);
    }
  }),
  once("volatile, to a client between two polls", async (stage) => {
    const peer = await stage.join("a");
    await peer.put('42["do",{"do":"emit","by":["volatile"]},"now",1]', '42["echo","next"]');
    await peer.hear();
  }, { carriers: ["polling"] }),
];
