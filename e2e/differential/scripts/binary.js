import { each, once } from "../script.js";

export const subject = "binary events";

const hole = (num) => `{"_placeholder":true,"num":${num}}`;
const part = (...bytes) => Buffer.from(bytes);

const TEN = Array.from({ length: 10 }, (_, index) => index);

const SHAPES = [
  ["one argument", `451-["echo",${hole(0)}]`, [part(1, 2, 3)]],
  ["two arguments", `452-["echo",${hole(0)},${hole(1)}]`, [part(1), part(2)]],
  ["between others", `451-["echo","a",${hole(0)},{"b":1}]`, [part(1)]],
  ["in an object", `451-["echo",{"a":{"b":${hole(0)}}}]`, [part(9)]],
  ["in a list", `452-["echo",[${hole(0)},"x",${hole(1)}]]`, [part(1), part(2)]],
  ["ten levels deep", `451-["echo",${"[".repeat(10)}${hole(0)}${"]".repeat(10)}]`, [part(5)]],
  ["in a different order", `452-["echo",${hole(1)},${hole(0)}]`, [part(1), part(2)]],
  ["the same twice", `451-["echo",${hole(0)},${hole(0)}]`, [part(7)]],
  ["an unreferenced one", `452-["echo",${hole(0)}]`, [part(1), part(2)]],
  ["only an unreferenced one", '451-["echo","x"]', [part(1)]],
  ["empty bytes", `451-["echo",${hole(0)}]`, [part()]],
  ["all ten that are allowed", `4510-["echo",${TEN.map(hole)}]`, TEN.map((number) => part(number))],
  ["many bytes", `451-["echo",${hole(0)}]`, [Buffer.alloc(70_000, 3)]],
  ["a placeholder with additional keys", '451-["echo",{"_placeholder":true,"num":0,"x":1}]', [part(1)]],
  ["a placeholder that is false", `451-["echo",{"_placeholder":false,"num":0},${hole(0)}]`, [part(1)]],
  ["keys in a different order", '451-["echo",{"num":0,"_placeholder":true}]', [part(1)]],
  ["a number as name", `451-[1,${hole(0)}]`, [part(1)]],
];

export const scripts = [
  ...SHAPES.map(([what, text, parts]) =>
    each(what, async (stage) => {
      const peer = await stage.join("a");
      await peer.send(text, ...parts);
      await peer.sync();
    }),
  ),
  each("in another namespace", async (stage) => {
    const peer = await stage.join("a", { namespace: "/other" });
    await peer.send(`451-/other,["echo",${hole(0)}]`, part(1));
    await peer.sync();
  }),
  each("answered with bytes", async (stage) => {
    const peer = await stage.join("a");
    await peer.send(`451-12["echo",${hole(0)},"x"]`, part(1, 2));
    await peer.sync();
  }),
  each("from the server, to all", async (stage) => {
    const [first, second] = await stage.joinAll(["a", "b"]);
    const command = '{"do":"emit","at":"io"}';
    await first.send(`452-["do",${command},"picture",{"of":${hole(0)}},${hole(1)}]`, part(1), part(2));
    await first.sync();
    await second.sync();
  }),
  each("for a client that asks for base64", async (stage) => {
    const peer = await stage.join("a", { query: "&b64=1" });
    await peer.send(`451-["echo",${hole(0)}]`, part(1, 2, 3));
    await peer.sync();
  }),
  each("two events with bytes keep together", async (stage) => {
    const peer = await stage.join("a");
    await peer.send(`451-["echo",${hole(0)}]`, part(1), `451-["echo",${hole(0)}]`, part(2), '42["echo","text"]');
    await peer.hear(5);
  }),
  once("without handler", async (stage) => {
    const peer = await stage.join("a");
    await peer.send(`451-["unheard of",${hole(0)}]`, part(1));
    await peer.sync();
    await peer.emit("echo", "next");
    await peer.hear();
  }),
];
