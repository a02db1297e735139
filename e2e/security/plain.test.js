// Custom attacks on plain mode and the grammar of JSON mode. See README.md for the rows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { attack, MIB } from "../lib/attack.js";
import { binary, closeAll, frame, OPCODES, RawWebSocket, text } from "../lib/raw.js";
import { startConformance } from "../lib/server.js";

const JSON_MODE = { headers: [["Sec-WebSocket-Protocol", "roomcast.json"]] };
const OUTBOX = { outbox: MIB };

/** Text just below the message limit, in bytes */
const LONG = 900_000;

/** Accepted client in JSON mode */
async function json(target, path = "/echo") {
  const client = await target.webSocket(path, JSON_MODE);
  client.welcome = JSON.parse(await client.text());
  assert.equal(typeof client.welcome[0].sid, "string");
  return client;
}

/** Sends frames in JSON mode and expects an error and a close; resolves to the error */
async function violates(target, ...frames) {
  const client = await json(target);
  client.send(...frames);
  const { code } = await client.untilClosed(2000);
  assert.ok([1007, 1008, 1009].includes(code), `closed with ${code}`);
  const said = client.frames.find(({ opcode }) => opcode === OPCODES.text);
  client.destroy();
  return said && JSON.parse(said.payload.toString())[0].error.message;
}

/** Fails if these frames take more than `most` milliseconds of CPU time */
async function cheap(target, what, most, work) {
  const spent = await target.processorTime(work);
  assert.ok(spent <= most, `${what} took ${spent} ms`);
  return `${what} ${spent}`;
}

attack("OWN-1 endlessly nested JSON", { growth: 24 * MIB }, async (target) => {
  const nested = (open, close, depth = LONG / 2) => `${open.repeat(depth)}${close.repeat(depth)}`;
  const values = [
    nested("[", "]"),
    nested('{"a":', "}", LONG / 6).replace(":}", ":1}"),
    "[".repeat(LONG),
    "{".repeat(LONG),
  ];
  const notes = [];
  for (const [at, value] of values.entries()) {
    notes.push(await cheap(target, `${at} JSON mode`, 300, () => violates(target, text(`["message",${value}]`))));
    for (const packet of [
      `42["message",${value}]`,
      `421["message-with-ack",${value}]`,
      `40/custom,{"a":${value}}`,
      `451-["x",${value}]`,
    ]) {
      const client = await target.socket();
      client.send(text(packet), binary(), text('429["message-with-ack",1]'));
      await client.until(() => client.ended || client.frames.length > 0, "neither answered nor closed", 2000);
      client.destroy();
    }
  }
  // A header may contain unknown keys with any JSON.
  const client = await json(target);
  client.send(text(`[{"later":${nested("[", "]")}}]`), text('["message",1]'));
  assert.equal(await client.text(), '["message",1]');
  return `${notes.join(", ")} ms`;
});

attack("OWN-2 endless numbers in JSON mode", { growth: 24 * MIB }, async (target) => {
  const digits = "9".repeat(LONG);
  for (const key of ["ack", "re", "binary"]) {
    for (const number of [digits, `0.${digits}`, `1e${digits}`, `-${digits}`, `"${digits}"`, `1${"0".repeat(LONG)}`]) {
      await cheap(target, key, 300, () => violates(target, text(`[{"${key}":${number}},"message"]`)));
    }
  }
  const client = await json(target);
  await cheap(target, "argument", 300, async () => {
    client.send(text(`["message",${digits}]`));
    await client.text(2000);
  });
});

attack("OWN-3 headers with very many keys in JSON mode", { growth: 24 * MIB }, async (target) => {
  const keys = (make) => Array.from({ length: 40_000 }, (_, at) => make(at)).join(",");
  for (const [members, isLegal] of [
    [keys((at) => `"k${at}":1`), true],
    [keys(() => '"later":1'), true],
    [keys(() => '"ack":1'), false],
    [keys((at) => `"__proto__${at}":{}`), true],
    [keys(() => '"ack":null'), false],
  ]) {
    await cheap(target, members.slice(0, 20), 500, async () => {
      const client = await json(target);
      client.send(text(`[{${members}},"message",1]`));
      await client.until(() => client.ended || client.frames.length > 0, "neither answered nor closed", 2000);
      const echoed = client.frames[0]?.payload.toString() === '["message",1]';
      assert.equal(echoed, isLegal, members.slice(0, 20));
      client.destroy();
    });
  }
  for (const header of [
    '"__proto__":{"ack":1}',
    '"ack":1,"re":1',
    '"ack":-1',
    '"binary":0',
    '"binary":11',
    '"re":1.5',
  ]) {
    await violates(target, text(`[{${header}},"connect"]`));
  }
});

attack("OWN-4 one attachment referenced repeatedly", { growth: 32 * MIB, flags: OUTBOX }, async (target) => {
  const placeholder = '{"_placeholder":true,"num":0}';
  const many = Array(30_000).fill(placeholder).join(",");
  const one = binary(Buffer.alloc(LONG));
  // 30,000 times 900 kB would be 27 GB.
  assert.match(await violates(target, text(`[{"binary":1},"message",${many}]`), one), /placeholder/);
  for (const [name, ack] of [
    ["message", ""],
    ["message-with-ack", "1"],
  ]) {
    const client = await target.socket();
    client.send(text(`451-${ack}["${name}",${many}]`), one);
    await client.untilClosed(3000);
    client.destroy();
  }
});

attack(
  "OWN-5 announced attachments that never arrive",
  { growth: 48 * MIB, flags: { "attachment-timeout": 400 } },
  async (target) => {
    const header = text('[{"binary":10},"message",{"_placeholder":true,"num":0}]');
    assert.match(await violates(target, header), /did not come in time/);
    assert.match(await violates(target, header, text('["message",1]')), /binary was announced/);
    // Each client may buffer data up to the event limit until its timeout.
    const clients = await Promise.all(Array.from({ length: 20 }, () => json(target)));
    for (const client of clients) client.send(header, binary(Buffer.alloc(LONG)));
    for (const client of clients) await client.untilClosed(2000);
    const large = await json(target);
    large.send(text(`[{"binary":10},"message",${JSON.stringify("x".repeat(LONG))}]`));
    for (let sent = 0; sent < 9; sent += 1) large.send(binary(Buffer.alloc(1_000_000)));
    large.send(binary(Buffer.alloc(1_000_000)));
    await large.untilClosed(2000);
  },
);

attack("OWN-6 floods of valid messages in plain mode", { growth: 24 * MIB, flags: OUTBOX }, async (target) => {
  const floods = [
    frame(""),
    frame("x"),
    binary(Buffer.alloc(0)),
    frame("", { opcode: OPCODES.pong }),
    frame("", { opcode: OPCODES.ping }),
  ];
  for (const one of floods) {
    const client = await target.webSocket("/echo");
    const batch = Buffer.concat(Array(20_000).fill(one));
    for (let sent = 0; sent < 5 && !client.ended; sent += 1) await client.write(batch);
    client.send(frame("last"));
    const isLast = ({ payload }) => payload.toString() === "last";
    await client.until(() => client.ended || client.frames.some(isLast), "no echo", 10_000);
    client.destroy();
  }
});

test("centrifugo cc951d84 a limit of 0 does not mean unlimited", async () => {
  for (const [limit, setting] of [
    ["max-payload", /max_payload/],
    ["max-fragments", /max_fragments/],
    ["outbox", /outbox_limit/],
  ]) {
    await assert.rejects(startConformance({ [limit]: 0 }), setting, limit);
  }
  // The smallest values are limits too.
  for (const [limit, frames, code] of [
    ["max-payload", [frame("xx")], 1009],
    ["max-fragments", [frame("x", { fin: false }), frame("y", { opcode: OPCODES.continuation })], 1008],
  ]) {
    const server = await startConformance({ [limit]: 1 });
    try {
      const client = await RawWebSocket.open(server, "/echo");
      await client.send(...frames);
      assert.equal((await client.untilClosed(5000)).code, code, limit);
    } finally {
      await closeAll();
      await server.stop();
    }
  }
});
