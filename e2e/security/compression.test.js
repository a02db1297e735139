// Attacks on negotiated compression: bombs, expensive small messages, contexts, and invalid DEFLATE data.
import assert from "node:assert/strict";
import { constants, deflateRawSync } from "node:zlib";
import { attack, MIB } from "../lib/attack.js";
import { frame, OPCODES } from "../lib/raw.js";

const AGREED = { compression: true };
const OFFER = { headers: [["Sec-WebSocket-Extensions", "permessage-deflate"]] };
const ALONE = { headers: [["Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover"]] };
const ENDPOINTS = ["/echo", "/engine.io/?EIO=4&transport=websocket", "/socket.io/?EIO=4&transport=websocket"];
const COMPRESSED = 4;

/** A message as RFC 7692 compresses it */
const compress = (bytes) =>
  deflateRawSync(bytes, { level: 9, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

const BOMB = compress(Buffer.alloc(256 * MIB));
assert.ok(BOMB.length < 300 * 1024);
const SMALL_BOMB = compress(Buffer.alloc(999_000, "4"));

/** A compressed message in fragments of this size */
function fragments(payload, size, opcode) {
  const count = Math.ceil(payload.length / size);
  return Array.from({ length: count }, (_, at) =>
    frame(payload.subarray(at * size, (at + 1) * size), {
      opcode: at === 0 ? opcode : OPCODES.continuation,
      rsv: at === 0 ? COMPRESSED : 0,
      fin: at === count - 1,
    }),
  );
}

attack("CVE-2016-10544 CVE-2026-54490 decompression stops at the message limit", { growth: 8 * MIB, flags: AGREED }, async (target) => {
  for (const path of ENDPOINTS) {
    for (const offer of [OFFER, ALONE]) {
      for (const opcode of [OPCODES.text, OPCODES.binary]) {
        for (const size of [BOMB.length, 1000]) {
          const client = await target.webSocket(path, offer);
          assert.match(client.handshake.headers["sec-websocket-extensions"], /^permessage-deflate/);
          await client.write(Buffer.concat(fragments(BOMB, size, opcode)));
          assert.equal((await client.untilClosed()).code, 1009);
        }
      }
    }
  }
});

attack("CVE-2026-62963 unfinished decompression bombs", { growth: 8 * MIB, flags: AGREED }, async (target) => {
  // Each sends less than is buffered compressed, and stays connected.
  for (let count = 0; count < 200; count += 1) {
    const client = await target.webSocket("/echo", ALONE);
    client.send(frame(SMALL_BOMB.subarray(0, 1000), { rsv: COMPRESSED, fin: false }));
  }
});

attack("highly compressed messages cost proportional time", { growth: 64 * MIB, worst: 3000, flags: AGREED }, async (target) => {
  // Each kilobyte inflates to a megabyte, which is echoed.
  const spent = [];
  for (const count of [10, 40]) {
    const client = await target.webSocket("/echo", ALONE);
    const message = frame(SMALL_BOMB, { rsv: COMPRESSED, opcode: OPCODES.binary, fin: false });
    const empty = frame("", { opcode: OPCODES.continuation });
    spent.push(
      await target.processorTime(async () => {
        for (let sent = 0; sent < count; sent += 1) await client.write(Buffer.concat([message, empty]));
        await client.until(() => client.frames.length >= count, "not all is echoed", 20_000);
      }),
    );
  }
  assert.ok(spent[1] < 12 * Math.max(spent[0], 20), `${spent} ms`);
  return `${spent.map(Math.round)} ms`;
});

attack("thousands of empty blocks and messages", { growth: 8 * MIB, flags: AGREED }, async (target) => {
  for (const offer of [OFFER, ALONE]) {
    const client = await target.webSocket("/engine.io/?EIO=4&transport=websocket", offer);
    // Each block ends a stream, so that the next starts a new one.
    const blocks = Buffer.concat([...Array(50_000).fill(Buffer.from([3, 0])), compress(Buffer.from("4end"))]);
    const spent = await target.processorTime(async () => {
      client.send(frame(blocks, { rsv: COMPRESSED }));
      // The hello message, and the echo.
      await client.until(() => client.frames.length >= 2, "the end is not echoed", 10_000);
    });
    assert.ok(spent < 2000, `${spent} ms`);
  }
});

attack("invalid DEFLATE data closes with 1007", { growth: 4 * MIB, flags: AGREED }, async (target) => {
  for (const offer of [OFFER, ALONE]) {
    for (const payload of [[6], Array(20).fill(255), [0, 5, 0, 0, 0], [0xf2, 0, 0x11, 0, 0]]) {
      const client = await target.webSocket("/echo", offer);
      client.send(frame(Buffer.from(payload), { rsv: COMPRESSED }));
      assert.equal((await client.untilClosed()).code, 1007);
    }
  }
});

attack("RSV1 where it is not allowed", { growth: 4 * MIB, flags: AGREED }, async (target) => {
  const marked = [
    [frame("", { opcode: OPCODES.ping, rsv: COMPRESSED })],
    [frame("4", { fin: false }), frame(BOMB, { opcode: OPCODES.continuation, rsv: COMPRESSED })],
    [frame("4", { rsv: 2 })],
    [frame("4", { rsv: COMPRESSED | 1 })],
  ];
  for (const frames of marked) {
    const client = await target.webSocket("/echo", OFFER);
    client.send(...frames);
    assert.equal((await client.untilClosed()).code, 1002);
  }
});

attack("contexts stop at their limit, and connections continue without", { growth: 96 * MIB, worst: 3000, flags: AGREED }, async (target) => {
  const text = compress(Buffer.from("words ".repeat(100)));
  let without = 0;
  for (let count = 0; count < 300; count += 1) {
    const client = await target.webSocket("/echo", OFFER);
    if (/no_context_takeover/.test(client.handshake.headers["sec-websocket-extensions"])) without += 1;
    client.send(frame(text, { rsv: COMPRESSED }));
    await client.next(OPCODES.text, 5000);
  }
  // 64 MiB hold 156 contexts.
  assert.ok(without >= 140, `${without} without context`);
});
