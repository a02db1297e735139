// Attacks on WebSocket implementations: frames and handshakes. See README.md for the rows.
import assert from "node:assert/strict";
import { deflateRawSync } from "node:zlib";
import { attack, MIB, pause } from "../lib/attack.js";
import { binary, frame, OPCODES, RawWebSocket, text, upgradeRequest } from "../lib/raw.js";

/** Every WebSocket path, with a check that an open connection works */
const ENDPOINTS = ["/engine.io/?EIO=4&transport=websocket", "/socket.io/?EIO=4&transport=websocket", "/echo"];

/** Compressed form of 256 MiB of zeros */
const DEFLATED_ZEROS = deflateRawSync(Buffer.alloc(256 * MIB), { level: 9 });
assert.ok(DEFLATED_ZEROS.length < 300 * 1024);

/** Fails unless this header on a WebSocket handshake is ignored or rejected; resolves to the outcome */
async function harmless(target, headers) {
  const connection = await target.connect();
  connection.write(upgradeRequest("/echo", headers));
  const answer = await connection.response();
  connection.destroy();
  assert.ok(answer.status === 101 || (answer.status >= 400 && answer.status < 500), `status ${answer.status}`);
  assert.equal(answer.headers["sec-websocket-extensions"], undefined, "an extension was negotiated");
  return answer;
}

attack("CVE-2016-10518 pongs contain exactly the ping's bytes", { growth: 2 * MIB }, async (target) => {
  for (const path of ENDPOINTS) {
    const client = await target.webSocket(path);
    for (const length of [0, 1, 2, 124, 125]) {
      const payload = Buffer.from(Array.from({ length }, (_, at) => (at * 7 + length) & 0xff));
      client.send(frame(payload, { opcode: OPCODES.ping }));
      assert.deepEqual((await client.next(OPCODES.pong)).payload, payload);
      // Only the declared length counts, not the bytes after the frame in the buffer.
      client.send(frame(payload, { opcode: OPCODES.ping }), frame("", { opcode: OPCODES.ping }));
      assert.deepEqual((await client.next(OPCODES.pong)).payload, payload);
      assert.equal((await client.next(OPCODES.pong)).payload.length, 0);
    }
    for (const length of [126, 65536]) {
      const offender = await target.webSocket(path);
      offender.send(frame(Buffer.alloc(length, 7), { opcode: OPCODES.ping }));
      assert.equal((await offender.untilClosed()).code, 1002);
    }
  }
});

const HUGE = [2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];

async function declaresHugeLengths(target) {
  for (const path of ENDPOINTS) {
    for (const opcode of [OPCODES.text, OPCODES.binary]) {
      for (const declared of HUGE) {
        const client = await target.webSocket(path);
        // No payload is sent, and in some cases no mask.
        const header = frame("", { opcode, declared });
        client.send(declared % 2n ? header.subarray(0, 10) : header);
        const { code } = await client.untilClosed();
        assert.equal(code, declared >= 2n ** 63n ? 1002 : 1009);
      }
      // The sum of fragments counts.
      const client = await target.webSocket(path);
      client.send(frame("x", { opcode, fin: false }), frame("", { opcode: 0, declared: 2n ** 63n - 1n }));
      assert.equal((await client.untilClosed()).code, 1009);
    }
  }
}

attack("CVE-2016-10542 oversized declared lengths close the connection at once", { growth: 2 * MIB }, declaresHugeLengths);
attack("CVE-2022-35922 a declared length allocates no memory", { growth: 8 * MIB }, async (target) => {
  await declaresHugeLengths(target);
  // Lengths within the limit, of messages that never arrive: they must not allocate the declared sizes.
  const clients = await Promise.all(Array.from({ length: 200 }, () => target.webSocket("/echo")));
  for (const client of clients) client.send(frame("", { opcode: OPCODES.binary, declared: 1_000_000 }));
  await pause(100);
  return "200 times 1 MB declared";
});

attack("GHSA-5v72-xg48-5rpm prototype property names as extensions", { growth: 2 * MIB }, async (target) => {
  for (const value of [
    "constructor",
    ",;constructor",
    "__proto__; toString=1",
    "toString;hasOwnProperty=valueOf",
    "",
  ]) {
    await harmless(target, [["Sec-WebSocket-Extensions", value]]);
  }
});

attack("CVE-2021-32640 spaces in Sec-WebSocket-Protocol", { growth: 4 * MIB }, async (target) => {
  const spent = [];
  for (let length = 16; length <= 65_536; length *= 2) {
    for (const value of [`b${" ".repeat(length)}x`, `b${" ".repeat(length / 2)},${" ".repeat(length / 2)}x`]) {
      spent.push(await target.processorTime(() => harmless(target, [["Sec-WebSocket-Protocol", value]])));
    }
  }
  assert.ok(Math.max(...spent) <= 50, `one handshake took ${Math.max(...spent)} ms`);
  await target.refuses(upgradeRequest("/echo", [["Sec-WebSocket-Protocol", "a,".repeat(5000)]]));
});

attack("CVE-2024-37890 many headers hide the upgrade", { growth: 4 * MIB }, async (target) => {
  const filler = Array.from({ length: 2500 }, (_, at) => [String.fromCharCode(97 + (at % 26)), "x"]);
  for (const path of ENDPOINTS) {
    const request = upgradeRequest(path, [...filler, ["Upgrade", "websocket"], ["Connection", "Upgrade"]]);
    await target.refuses(request, { statuses: [400, 431] });
  }
  // As many headers as fit, without the upgrade.
  const some = filler.slice(0, 80);
  for (const missing of ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"]) {
    await target.refuses(upgradeRequest("/echo", [...some, [missing, null]]));
  }
});

attack("CVE-2026-45736 close frames contain only code and reason", { growth: 2 * MIB }, async (target) => {
  const closes = async (path, bytes, options) => {
    const client = await target.webSocket(path, options);
    client.send(...bytes);
    await client.untilClosed();
    const { payload } = await client.next(OPCODES.close);
    assert.ok(payload.length <= 125, `${payload.length} bytes`);
    return { code: payload.length && payload.readUInt16BE(0), reason: payload.toString("latin1", 2) };
  };
  const close = (payload) => frame(payload, { opcode: OPCODES.close });
  const code = (number, reason = "") => Buffer.concat([Buffer.of(number >> 8, number & 0xff), Buffer.from(reason)]);
  const notUtf8 = Buffer.concat([code(1000), Buffer.of(0xff)]);
  const json = { headers: [["Sec-WebSocket-Protocol", "roomcast.json"]] };
  for (const path of ENDPOINTS) {
    assert.deepEqual(await closes(path, [close("")]), { code: 0, reason: "" });
    assert.deepEqual(await closes(path, [close(code(1000, "r".repeat(123)))]), { code: 1000, reason: "" });
    // The server sends only a few fixed texts.
    for (const bad of [close("x"), close(code(1005)), close(notUtf8), frame("x", { opcode: 3 })]) {
      const { code, reason } = await closes(path, [bad]);
      assert.ok([1002, 1007].includes(code), `${code}`);
      assert.match(reason, /^[\x20-\x7e]*$/);
    }
  }
  const said = await closes("/echo", [text("no JSON")], json);
  assert.deepEqual([said.code, said.reason], [1007, "parse error"]);
});

// A million writes may take longer than the ping interval.
const UNDISTURBED = { growth: 16 * MIB, flags: { "ping-interval": 600_000 } };

attack("CVE-2026-48779 millions of fragments, and a message byte by byte", UNDISTURBED, async (target) => {
  const fragments = await target.engine();
  fragments.send(frame("4", { fin: false }));
  const one = frame("x", { opcode: OPCODES.continuation, fin: false });
  const batch = Buffer.concat(Array(10_000).fill(one));
  for (let sent = 0; sent < 100 && !fragments.ended; sent += 1) await fragments.write(batch);
  const { code } = await fragments.untilClosed();
  assert.ok([1008, 1009].includes(code), `closed with ${code}`);
  const took = target.memory();

  const drip = await target.engine();
  const message = `4${"x".repeat(DRIPPED - 1)}`;
  const bytes = frame(message);
  for (let at = 0; at < bytes.length; at += 1) {
    // The socket buffer fills up at times; each byte is still a separate write.
    const written = drip.write(bytes.subarray(at, at + 1));
    if (at % 256 === 0) await written;
  }
  assert.ok((await drip.text(10_000)) === message, "unexpected echo");
  assert.ok(target.memory() - took <= 4 * DRIPPED + 4 * MIB);
});

/** Size of the message that is sent byte by byte */
const DRIPPED = 1_000_000;

attack("CVE-2026-62389 endless empty fragments", { growth: 4 * MIB }, async (target) => {
  for (const opcode of [OPCODES.text, OPCODES.binary]) {
    const client = await target.engine();
    client.send(frame("", { opcode, fin: false }));
    const empty = frame("", { opcode: OPCODES.continuation, fin: false });
    const batch = Buffer.concat(Array(10_000).fill(empty));
    for (let sent = 0; sent < 100 && !client.ended; sent += 1) await client.write(batch);
    assert.equal((await client.untilClosed()).code, 1008);
  }
});

attack("CVE-2016-10544 compression is off by default", { growth: 4 * MIB }, async (target) => {
  for (const path of ENDPOINTS) {
    for (const offer of [
      "permessage-deflate",
      "permessage-deflate; client_max_window_bits",
      "x-webkit-deflate-frame",
    ]) {
      const headers = [["Sec-WebSocket-Extensions", offer]];
      for (const options of [{ rsv: 4 }, { rsv: 4, fin: false }, { rsv: 4, opcode: OPCODES.binary }]) {
        const client = await target.webSocket(path, { headers });
        assert.equal(client.handshake.headers["sec-websocket-extensions"], undefined);
        client.send(frame(DEFLATED_ZEROS, options));
        assert.equal((await client.untilClosed()).code, 1002);
      }
    }
  }
});

attack("CVE-2026-54490 compression cannot bypass size limits", { growth: 4 * MIB }, async (target) => {
  // Also with compressed frames between the fragments of a valid message.
  const client = await target.engine();
  client.send(frame("4", { fin: false }), frame(DEFLATED_ZEROS, { opcode: 0, fin: true, rsv: 4 }));
  assert.equal((await client.untilClosed()).code, 1002);
  for (const rsv of [1, 2, 3, 5, 6, 7]) {
    const other = await target.engine();
    other.send(frame("4", { rsv }));
    assert.equal((await other.untilClosed()).code, 1002);
  }
});

attack(
  "CVE-2026-62963 plain endpoints decompress nothing",
  { growth: 4 * MIB, app: "demo" },
  async (target) => {
    for (const protocols of [[], [["Sec-WebSocket-Protocol", "roomcast.json"]]]) {
      const headers = [...protocols, ["Sec-WebSocket-Extensions", "permessage-deflate"]];
      const client = await target.webSocket("/ws", { headers });
      assert.equal(client.handshake.headers["sec-websocket-extensions"], undefined);
      client.send(frame(DEFLATED_ZEROS, { rsv: 4 }));
      assert.equal((await client.untilClosed()).code, 1002);
    }
  },
);

attack("CVE-2026-1526 CVE-2026-1528 CVE-2026-2229 parameters of an offer", { growth: 2 * MIB }, async (target) => {
  const parameters = [
    ...[0, 7, 16, "abc", "", "8; server_max_window_bits=9"].map((bits) => `server_max_window_bits=${bits}`),
    ...[7, 16, '"15"', -1].map((bits) => `client_max_window_bits=${bits}`),
    "server_no_context_takeover=1",
    "unknown",
  ];
  for (const parameter of parameters) {
    await harmless(target, [["Sec-WebSocket-Extensions", `permessage-deflate; ${parameter}`]]);
    const twice = ["Sec-WebSocket-Extensions", `permessage-deflate; ${parameter}`];
    await harmless(target, [twice, twice]);
  }
});

attack(
  "CVE-2020-7662 CVE-2020-7663 unclosed quotes in Sec-WebSocket-Extensions",
  { growth: 4 * MIB },
  async (target) => {
    for (const size of [1000, 7000, 15_000]) {
      for (const value of [`a;b="${"\\c".repeat(size)}`, `a; b=${'"'.repeat(size)}`, `${"a,;".repeat(size / 2)}`]) {
        const spent = await target.processorTime(() => harmless(target, [["Sec-WebSocket-Extensions", value]]));
        assert.ok(spent <= 50, `${size}: ${spent} ms`);
      }
    }
  },
);

attack("CVE-2026-54466 CVE-2026-54463 draft protocol versions are rejected", { growth: 2 * MIB }, async (target) => {
  const endless = Buffer.concat([Buffer.of(0x80), Buffer.alloc(100_000, 0xff)]);
  for (const headers of [
    [
      ["Sec-WebSocket-Version", null],
      ["Sec-WebSocket-Key", null],
    ],
    [
      ["Sec-WebSocket-Version", null],
      ["Sec-WebSocket-Key1", "4 @1  46546xW%0l 1 5"],
      ["Sec-WebSocket-Key2", "1 2"],
    ],
    [["Sec-WebSocket-Version", "8"]],
    [["Sec-WebSocket-Version", "0"]],
    [["Sec-WebSocket-Version", "13, 8"]],
  ]) {
    for (const path of ENDPOINTS) {
      const connection = await target.connect();
      connection.write(Buffer.concat([Buffer.from(upgradeRequest(path, headers)), endless]));
      const answer = await connection.refused({ statuses: [400, 426] });
      // A reset may discard the response, since much of the input is never read.
      if (answer.status === 426) assert.equal(answer.headers["sec-websocket-version"], "13");
      await connection.untilEnded();
    }
  }
  const alone = await target.refuses(upgradeRequest("/echo", [["Sec-WebSocket-Version", null]]));
  assert.equal(alone.headers["sec-websocket-version"], "13");
});

attack("CVE-2022-21676 a bad frame in the same segment as the handshake", { growth: 2 * MIB }, async (target) => {
  const bad = Buffer.of(0xf1, 0x80, 0, 0, 0, 0);
  for (const path of ENDPOINTS) {
    const client = await target.webSocket(path, { early: [bad] });
    assert.equal((await client.untilClosed()).code, 1002);
    // Split at every byte.
    for (let cut = 0; cut < bad.length; cut += 1) {
      const parts = await target.webSocket(path, { early: [bad.subarray(0, cut)] });
      parts.send(bad.subarray(cut));
      assert.equal((await parts.untilClosed()).code, 1002);
    }
  }
  const polled = await target.session();
  const probe = await target.webSocket(`/engine.io/?EIO=4&transport=websocket&sid=${polled}`, { early: [bad] });
  await probe.untilClosed();
});

attack("CVE-2022-41940 connections reset during rejection or upgrade", { growth: 8 * MIB }, async (target) => {
  const unknown = upgradeRequest("/engine.io/?EIO=4&transport=websocket&sid=unknownunknownunknow");
  const known = upgradeRequest("/engine.io/?EIO=4&transport=websocket");
  for (let round = 0; round < 20; round += 1) {
    const connections = await Promise.all(Array.from({ length: 100 }, () => target.connect()));
    for (const [at, connection] of connections.entries()) {
      const request = at % 2 ? unknown : known;
      connection.write(request).then(() => connection.reset());
    }
    await Promise.all(connections.map((connection) => connection.until(() => connection.socket.destroyed, "no reset")));
  }
  return "2000 connections";
});

attack("CVE-2019-13611 pages of other sites cannot use a visitor's cookies", { growth: 2 * MIB }, async (target) => {
  for (const origin of ["http://evil.example", "null", `http://localhost.evil.example`, "http://localhost:1"]) {
    for (const path of ENDPOINTS) {
      const headers = [
        ["Origin", origin],
        ["Cookie", "session=secret"],
      ];
      await target.refuses(upgradeRequest(path, headers), { statuses: [403, 400] });
    }
    const polling = await target.ask("GET", "/socket.io/?EIO=4&transport=polling", [
      ["Origin", origin],
      ["Cookie", "a=b"],
    ]);
    assert.equal(polling.status, 403);
  }
  for (const headers of [
    [
      ["Origin", "http://localhost"],
      ["Cookie", "a=b"],
    ],
    [["Cookie", "a=b"]],
  ]) {
    (await RawWebSocket.open(target, "/echo", { headers })).destroy();
  }
  const session = await target.session();
  const upgrade = `/engine.io/?EIO=4&transport=websocket&sid=${session}`;
  await target.refuses(
    upgradeRequest(upgrade, [
      ["Origin", "http://evil.example"],
      ["Cookie", "a=b"],
    ]),
  );
});

attack(
  "CVE-2019-13611 only pages of allowed origins",
  { growth: 2 * MIB, app: "demo", flags: { "allow-origin": "https://chat.example", "origin-policy": "same" } },
  async (target) => {
    for (const cookie of [[], [["Cookie", "session=secret"]]]) {
      for (const origin of ["https://evil.example", "http://chat.example", "https://chat.example.evil", "null"]) {
        await target.refuses(upgradeRequest("/ws", [["Origin", origin], ...cookie]), { statuses: [403] });
      }
      await target.refuses(upgradeRequest("/ws", [["Origin", "https://chat.example"], ...cookie]), { statuses: [101] });
      await target.refuses(upgradeRequest("/ws", cookie), { statuses: [101] });
    }
  },
);

attack(
  "RUSTSEC-2020-0043 a client that sends and never reads",
  { growth: 24 * MIB, flags: { outbox: MIB } },
  async (target) => {
    const ask = {
      "/engine.io/?EIO=4&transport=websocket": frame(`4${"x".repeat(50_000)}`),
      "/echo": frame("x".repeat(50_000)),
    };
    for (const [path, message] of Object.entries(ask)) {
      const client = await target.webSocket(path);
      client.socket.pause();
      // Far more than the kernel's buffers in both directions, which do not count for the server.
      for (let sent = 0; sent < 1000 && client.socket.writable; sent += 1) {
        const written = await Promise.race([client.write(message), pause(500).then(() => "full")]);
        if (written === "full") break;
      }
      client.socket.resume();
      assert.deepEqual(await client.untilClosed(5000), { code: 1008, reason: "slow consumer" });
      assert.ok(client.size < 40 * MIB);
      client.destroy();
    }
    // Pongs and close frames use the same queue.
    const pinger = await target.webSocket("/echo");
    pinger.socket.pause();
    const pings = Buffer.concat(Array(2000).fill(frame(Buffer.alloc(125, 7), { opcode: OPCODES.ping })));
    for (let sent = 0; sent < 200 && pinger.socket.writable; sent += 1) {
      const written = await Promise.race([pinger.write(pings), pause(500).then(() => "full")]);
      if (written === "full") break;
    }
    pinger.socket.resume();
    await pinger.untilEnded(5000);
  },
);
