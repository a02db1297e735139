// Attacks on Socket.IO: packets, their attachments, and names. See README.md for the rows.
import assert from "node:assert/strict";
import { attack, MIB, pause } from "../lib/attack.js";
import { request } from "../lib/http.js";
import { binary, OPCODES, text } from "../lib/raw.js";

/** Text just below the message limit, in bytes */
const LONG = 900_000;

/** A client packet with a placeholder that has this number as written */
const withPlaceholder = (count, num) => text(`45${count}-["message",{"_placeholder":true,"num":${num}}]`);

/** Sends frames on a separate client and expects a close within a second */
async function closes(target, ...frames) {
  const client = await target.socket();
  client.send(...frames);
  const end = await client.untilClosed();
  client.destroy();
  return end;
}

/** Fails unless the client is closed, or stays connected and received only its own echo */
async function survives(target, ...frames) {
  const client = await target.socket();
  client.send(...frames, text('429["message-with-ack","on"]'));
  await client.until(() => client.ended || client.frames.length > 0, "neither closed nor answered");
  const [{ opcode, payload }] = client.frames;
  if (opcode !== OPCODES.close) assert.equal(payload.toString(), '439["on"]');
  client.destroy();
}

attack("CVE-2024-38355 reserved event names", { growth: 2 * MIB }, async (target) => {
  const reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
  for (const name of reserved) {
    assert.equal((await closes(target, text(`42["${name}",{}]`))).code, 1005);
    // Also with escapes, and with attachments.
    await closes(target, text(`42["\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}",{}]`));
    await closes(target, text(`451-["${name}",{"_placeholder":true,"num":0}]`), binary());
  }
  for (const name of ["error", "connection", "__proto__", "constructor", "toString", "", "\\u0000"]) {
    await survives(target, text(`42["${name}",{}]`));
    await survives(target, text(`421["${name}"]`));
  }
});

attack("CVE-2020-36049 endless numbers and names", { growth: 24 * MIB }, async (target) => {
  const notes = [];
  for (const [packet, what] of [
    [`45${"9".repeat(LONG)}`, "count"],
    [`45${"0".repeat(LONG)}-["x"]`, "zeros"],
    [`42${"1".repeat(LONG)}`, "id"],
    [`42${"0".repeat(LONG)}["message-with-ack"]`, "zeros as id"],
    [`43${"1".repeat(LONG)}[]`, "ack"],
    [`42/${"a".repeat(LONG)}`, "namespace"],
    [`40/${"a".repeat(LONG)},{}`, "join"],
    [`42${"[".repeat(LONG)}`, "brackets"],
    [`42["${"\\\\".repeat(LONG / 2)}`, "escapes"],
    [`42["${"a".repeat(LONG)}"]`, "event name"],
    [`42[${"1".repeat(LONG)}]`, "numeric name"],
    [`42["message-with-ack",${"1".repeat(LONG)}]`, "number"],
    [`42["x"${" ".repeat(LONG)}]`, "white space"],
  ]) {
    const bytes = text(packet);
    let spent = await target.processorTime(async () => {
      const client = await target.socket();
      client.send(bytes, text('429["message-with-ack",1]'));
      await client.until(() => client.ended || client.frames.length > 0, `${what}: neither closed nor answered`, 2000);
      client.destroy();
    });
    notes.push(`${what} ${spent}`);
    // Debug build, linear: a million bytes read a few times.
    assert.ok(spent <= 300, `${what} took ${spent} ms`);
  }
  return `${notes.join(", ")} ms`;
});

attack("CVE-2022-2421 placeholders with an invalid index", { growth: 2 * MIB }, async (target) => {
  const numbers = [
    '"splice"',
    -1,
    1,
    1.5,
    "1e99",
    null,
    '"0"',
    "[0]",
    "{}",
    true,
    99999999999999999999n,
    '"__proto__"',
  ];
  for (const num of numbers) await closes(target, withPlaceholder(1, num), binary());
  await closes(target, text('451-["x",{"_placeholder":true}]'), binary());
  await closes(target, text('452-["x",{"_placeholder":true,"num":2}]'), binary(), binary());
  // Nested in other placeholders, and with other spellings.
  await closes(target, text('451-["x",{"_placeholder":{"_placeholder":true,"num":7},"num":0}]'), binary());
  await closes(target, text('451-["x",[[[{"\\u005fplaceholder":true,"num":1}]]]]'), binary());
  await survives(target, text('42["x",{"_placeholder":true,"num":"splice"}]'));
});

attack("CVE-2023-32695 event names that are not strings", { growth: 2 * MIB }, async (target) => {
  for (const packet of ['42[{"toString":"foo"}]', "42[[]]", "42[null]", "42[]", "42[1.5]", "42[true]", "42[{}]"]) {
    await closes(target, text(packet));
    await closes(target, text(packet.replace("42", "421")));
    await closes(target, text(packet.replace("42", "451-")));
  }
});

const TOO_MANY = [11, 12, 100, 9999, 2 ** 31, 2 ** 32, 2n ** 64n, "9".repeat(1000)];

attack("CVE-2026-33151 too many attachments", { growth: 4 * MIB }, async (target) => {
  for (const count of TOO_MANY) {
    assert.equal((await closes(target, withPlaceholder(count, 0))).code, 1005, "closed by the header alone");
    await closes(target, text(`46${count}-1[{"_placeholder":true,"num":0}]`));
  }
  await closes(target, withPlaceholder("+1", 0));
  await closes(target, withPlaceholder("-1", 0));
});

attack("CVE-2026-69185 binary packets with zero attachments", { growth: 4 * MIB }, async (target) => {
  for (const header of ['450-["x"]', '45-["x"]', '45["x"]', "460-1[]", '4500-["x"]']) {
    const client = await target.socket();
    client.send(text(header));
    const flood = Buffer.concat(Array(1000).fill(binary(Buffer.alloc(100))));
    for (let sent = 0; sent < 100 && !client.ended; sent += 1) await client.write(flood);
    assert.equal((await client.untilClosed()).code, 1005);
  }
});

attack(
  "GHSA-55mf-67qm-4wpg attachments before the connect",
  { growth: 24 * MIB, flags: { "attachment-timeout": 300 } },
  async (target) => {
    const open = () => target.webSocket("/socket.io/?EIO=4&transport=websocket");
    for (const count of TOO_MANY) {
      const client = await open();
      client.send(withPlaceholder(count, 0));
      await client.untilClosed();
    }
    // As many as allowed, each as large as allowed, to a namespace without members.
    const client = await open();
    client.send(withPlaceholder(10, 0));
    const large = binary(Buffer.alloc(1_000_000));
    for (let sent = 0; sent < 12 && !client.ended; sent += 1) await client.write(large);
    await client.untilClosed();
    const over = await open();
    over.send(binary(Buffer.alloc(1_000_001)));
    assert.equal((await over.untilClosed()).code, 1009);
    // Never completed: a client that stops is closed at its deadline, joined or not.
    const slow = [await open(), await target.socket()];
    for (const one of slow) one.send(withPlaceholder(2, 0), binary());
    for (const one of slow) await one.untilClosed(1300);
    // Progress does not extend the deadline.
    const drip = await target.socket();
    drip.send(withPlaceholder(10, 0));
    for (let sent = 0; sent < 9 && !drip.ended; sent += 1) {
      drip.send(binary());
      await pause(100);
    }
    await drip.untilClosed(300);
  },
);

attack("socket.io-parser unexpected binary or text", { growth: 2 * MIB }, async (target) => {
  assert.equal((await closes(target, binary())).code, 1005);
  await closes(target, withPlaceholder(1, 0), binary(), binary());
  await closes(target, withPlaceholder(2, 0), binary(), text('42["x"]'));
  await closes(target, withPlaceholder(1, 0), withPlaceholder(1, 0));
  await closes(target, withPlaceholder(1, 0), text("40/custom,"));
  // Heartbeats are allowed in between.
  const client = await target.socket();
  client.send(text('451-7["message-with-ack",{"_placeholder":true,"num":0}]'), text("3"), binary());
  assert.equal(await client.text(), '461-7[{"_placeholder":true,"num":0}]');
});

attack("CVE-2026-48804 attachments pile up over polling", { growth: 16 * MIB }, async (target) => {
  const sid = await target.session("/socket.io/");
  const url = `${target.url}/socket.io/?EIO=4&transport=polling&sid=${sid}`;
  const send = async (body) => (await request(url, { method: "POST", body })).status;
  assert.equal(await send("40"), 200);
  // The limit is per packet: ten attachments in ten POSTs, and then one more.
  const part = `b${Buffer.alloc(700_000).toString("base64")}`;
  assert.equal(await send(`4510-["message",{"_placeholder":true,"num":0}]`), 200);
  let sent = 0;
  while (sent < 30 && (await send(part)) === 200) sent += 1;
  assert.ok(sent <= 12, `${sent} were accepted`);
});

attack(
  "CVE-2020-11020 no events from rejected clients, for any spelling of the namespace",
  { growth: 2 * MIB },
  async (target) => {
    const open = async () => {
      const client = await target.webSocket("/socket.io/?EIO=4&transport=websocket");
      await client.text();
      return client;
    };
    for (const packet of [
      '42["message","hi"]',
      '421["message-with-ack"]',
      "41",
      "431[]",
      '42/custom,["x"]',
      '44{"message":"x"}',
    ]) {
      const client = await open();
      client.send(text(packet));
      assert.equal((await client.untilClosed()).code, 1005);
      assert.deepEqual(
        client.frames.filter(({ opcode }) => opcode === OPCODES.text),
        [],
      );
    }
    const names = [
      "/custom/",
      "/Custom",
      "/CUSTOM",
      "/%63ustom",
      "//custom",
      "/custom%2f",
      "/custom?x=1",
      "/custom\\u0000",
      "/./custom",
    ];
    for (const name of [...names, "/engine/", "/__proto__", "/constructor"]) {
      const client = await open();
      client.send(text(`40${name},{}`));
      assert.match(await client.text(), /^44.*"Invalid namespace"/, name);
      // A client in one namespace is not in another.
      client.send(text("40"), text(`42${name},["message","hi"]`));
      await client.untilClosed();
    }
  },
);

attack("centrifugo cc951d84 very many unknown namespaces", { growth: 8 * MIB }, async (target) => {
  for (let round = 0; round < 10; round += 1) {
    const client = await target.socket();
    const joins = Array.from({ length: 10_000 }, (_, at) => text(`40/${round}-${at},{}`));
    await client.write(Buffer.concat(joins));
    await client.until(() => client.ended || client.frames.length === 10_000, "not all are answered", 5000);
    client.destroy();
  }
  return "100000 names";
});
