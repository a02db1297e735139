// Attacks on HTTP parsing: truncated, endless, ambiguous or malformed requests. See README.md for the rows.
import assert from "node:assert/strict";
import { attack, MIB, pause } from "../lib/attack.js";
import { request } from "../lib/http.js";
import { httpRequest, responses, text, upgradeRequest } from "../lib/raw.js";

const HANDSHAKE = "/engine.io/?EIO=4&transport=polling";

/** A request within the body of another, which must never get a response */
const SMUGGLED = httpRequest("GET", "/engine.io/?EIO=4&transport=polling&sid=smuggled");

/** Whether the inner request was handled */
const isHeard = (connection) => connection.answer.includes("Session ID unknown");

/**
 * Sends a POST with an ambiguous end and a request after it, to a session and to a path that ignores bodies.
 *
 * At most one response is allowed, with one of `statuses`, and then the connection must close.
 */
async function smugglesNothing(target, headers, body, { version = "1.1", statuses = [400] } = {}) {
  const sid = await target.session();
  for (const path of [`${HANDSHAKE}&sid=${sid}`, "/nothing"]) {
    const head = `POST ${path} HTTP/${version}\r\nHost: a\r\n${headers}\r\n`;
    const what = JSON.stringify(head);
    const connection = await target.connect();
    connection.write(Buffer.from(`${head}\r\n${body}${SMUGGLED}`, "latin1"));
    await connection.untilEnded();
    assert.ok(!isHeard(connection), `${what}: the inner request was handled`);
    const answers = responses(connection.received).map(({ status }) => status);
    assert.ok(answers.length <= 1, `${what} got ${answers}`);
    for (const status of answers) assert.ok(statuses.includes(status), `${what} got ${status}`);
    connection.destroy();
  }
}

attack("CVE-2021-45945 requests cut at every byte", { growth: 4 * MIB }, async (target) => {
  const sid = await target.session();
  for (const [bytes, status] of [
    [
      httpRequest("GET", HANDSHAKE, [
        ["Host", "a"],
        ["X", "y"],
      ]),
      200,
    ],
    [
      httpRequest(
        "POST",
        `${HANDSHAKE}&sid=${sid}`,
        [
          ["Host", "a"],
          ["Content-Length", 3],
        ],
        "4ab",
      ),
      200,
    ],
    [
      httpRequest(
        "POST",
        `${HANDSHAKE}&sid=${sid}`,
        [
          ["Host", "a"],
          ["Transfer-Encoding", "chunked"],
        ],
        "3\r\n4ab\r\n0\r\n\r\n",
      ),
      200,
    ],
    [upgradeRequest("/echo"), 101],
  ]) {
    const cut = async (at) => {
      const connection = await target.connect();
      await connection.write(bytes.slice(0, at));
      await pause(1);
      await connection.write(bytes.slice(at));
      assert.equal((await connection.response()).status, status);
      connection.destroy();
    };
    // POSTs of one session are sequential; other requests need not be.
    const places = Array.from({ length: bytes.length - 1 }, (_, at) => at + 1);
    if (bytes.startsWith("POST")) for (const at of places) await cut(at);
    else while (places.length > 0) await Promise.all(places.splice(0, 50).map(cut));
  }
  const bytewise = await target.connect();
  for (const byte of httpRequest("GET", HANDSHAKE)) await bytewise.write(byte);
  assert.equal((await bytewise.response()).status, 200);
});

attack("CVE-2021-45945 invalid bytes in requests", { growth: 8 * MIB }, async (target) => {
  const line = `GET ${HANDSHAKE} HTTP/1.1\r\n`;
  for (const bytes of [
    `${line}Host: a\r\nno colon here\r\n\r\n`,
    `${line}Host: a\r\nName\0: x\r\n\r\n`,
    `${line}Host: a\r\nName: x\0y\r\n\r\n`,
    `${line}Host: a\r\nName : x\r\n\r\n`,
    `${line}Host: a\r\n: x\r\n\r\n`,
    `${line}Host: a\r\nName: x\r\n folded\r\n\r\n`,
    `${line}Host: a\r\nName: x\ry\r\n\r\n`,
    `${line} Host: a\r\n\r\n`,
    `GET ${HANDSHAKE} HTTP/1.1 x\r\nHost: a\r\n\r\n`,
    `GET ${HANDSHAKE} HTTP/3.7\r\nHost: a\r\n\r\n`,
    `GET ${HANDSHAKE}\r\nHost: a\r\n\r\n`,
    `GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n`,
    `G\0T / HTTP/1.1\r\nHost: a\r\n\r\n`,
    `\0\0\0\0\r\n\r\n`,
    `\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03${"\xaa".repeat(500)}`,
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
    `${line}Host: a\r\nX: ${"y".repeat(100_000)}\r\n\r\n`,
    `GET ${HANDSHAKE}&x=${"y".repeat(100_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
  ]) {
    await target.refuses(Buffer.from(bytes, "latin1"));
  }
  // Bare line feeds and bytes above 127 in a value are allowed; they must be read unchanged.
  for (const [bytes, statuses] of [
    [`GET ${HANDSHAKE} HTTP/1.1\nHost: a\n\n`, [200, 400]],
    [`${line}Host: a\r\nX: \xe4\xff\r\n\r\n`, [200, 400]],
    [`${line}Host: a\r\nOrigin: \xe4\xff\r\n\r\n`, [400, 403]],
    [`GET ${HANDSHAKE}&x=\xe4 HTTP/1.1\r\nHost: a\r\n\r\n`, [200, 400]],
  ]) {
    await target.refuses(Buffer.from(bytes, "latin1"), { statuses });
  }
});

attack("CVE-2021-45945 rooms joined and left during disconnects", { growth: 8 * MIB, app: "demo" }, async (target) => {
  const crowd = Array.from({ length: 20 }, async (_, number) => {
    for (let round = 0; round < 10; round += 1) {
      const client = await target.socket();
      const steps = Array.from({ length: 50 }, (_, at) => {
        const room = `r${(at * 7 + number) % 5}`;
        return text(`42["${["join", "room", "leave", "room-others"][at % 4]}","${room}","x"]`);
      });
      await client.write(Buffer.concat(steps));
      if (round % 3 === 0) client.reset();
      else if (round % 3 === 1) client.send(text("41"));
      client.destroy();
    }
  });
  await Promise.all(crowd);
});

const CHUNKS = "0\r\n\r\n";

attack("uWebSockets-1497 requests with two lengths", { growth: 4 * MIB }, async (target) => {
  // With both a length and chunks, the chunks count and the connection closes: one of the two behaviors that
  // RFC 9112 section 6.1 allows. The chunks contain an empty payload.
  const chunked = { statuses: [200, 400, 404] };
  await smugglesNothing(
    target,
    `Content-Length: ${SMUGGLED.length + 5}\r\nTransfer-Encoding: chunked`,
    CHUNKS,
    chunked,
  );
  await smugglesNothing(target, "Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKS, chunked);
  await smugglesNothing(target, `Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}`, "");
  await smugglesNothing(target, `Content-Length: ${SMUGGLED.length}\r\nContent-Length: 0`, "");
  const lengths = [
    "+5",
    "5,5",
    "5, 6",
    "0x5",
    "5 5",
    "-1",
    "5.",
    "five",
    "",
    String(2n ** 64n),
    String(2n ** 64n + 5n),
  ];
  for (const length of lengths) await smugglesNothing(target, `Content-Length: ${length}`, "12345");
  const unknown = ["xchunked", "chunked, gzip", "chunked;q=1", '"chunked"', "chun\0ked", "\x0bchunked", "identity", ""];
  for (const coding of unknown) await smugglesNothing(target, `Transfer-Encoding: ${coding}`, CHUNKS);
  const refused = { statuses: [400, 501] };
  for (const coding of ["gzip, chunked", "chunked, chunked", "identity, chunked", "chunked, identity"]) {
    await smugglesNothing(target, `Transfer-Encoding: ${coding}`, CHUNKS, refused);
  }
  await smugglesNothing(target, "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", CHUNKS, refused);
  await smugglesNothing(target, "Transfer-Encoding : chunked", CHUNKS);
  await smugglesNothing(target, "Transfer-Encoding: chunked", CHUNKS, { version: "1.0" });
});

attack("uWebSockets-1497 invalid chunk sizes and surplus data", { growth: 4 * MIB }, async (target) => {
  const sid = await target.session();
  const head = httpRequest("POST", `${HANDSHAKE}&sid=${sid}`, [
    ["Host", "a"],
    ["Transfer-Encoding", "chunked"],
  ]);
  for (const chunks of [
    "G\r\n",
    "0x1\r\na\r\n",
    "-1\r\na\r\n",
    "+1\r\na\r\n",
    `1${"0".repeat(16)}\r\n`,
    "f".repeat(16),
    " 1\r\na\r\n",
    "1\r\nab\r\n",
    "1\ra",
    "\r\n",
    `1;${"x".repeat(20_000)}\r\na\r\n`,
    "3\r\n4aXX\r\n",
    "0\r\nno colon\r\n\r\n",
  ]) {
    const own = await target.session();
    const connection = await target.connect();
    connection.write(`${head.replace(sid, own)}${chunks}${SMUGGLED}`);
    await connection.untilEnded();
    assert.ok(!isHeard(connection), JSON.stringify(chunks));
    for (const { status } of responses(connection.received)) assert.equal(status, 400, JSON.stringify(chunks));
  }
  // A tab is white space around a value (RFC 9110 section 5.5), so this is chunked too.
  const tabbed = await target.connect();
  tabbed.write(`${head.replace("chunked\r\n", "chunked\t\r\n")}3\r\n4ab\r\n0\r\n\r\n${httpRequest("GET", "/nothing")}`);
  assert.deepEqual([(await tabbed.response()).status, (await tabbed.response({ skip: 1 })).status], [200, 404]);
  // Bytes after a body are another request and must be valid.
  const behind = await target.connect();
  behind.write(
    `${httpRequest(
      "POST",
      `${HANDSHAKE}&sid=${sid}`,
      [
        ["Host", "a"],
        ["Content-Length", 2],
      ],
      "4a",
    )}rest\r\n\r\n`,
  );
  assert.equal((await behind.response()).status, 200);
  assert.equal((await behind.response({ skip: 1 })).status, 400);
  await behind.untilEnded();
});

attack("CVE-2023-43669 an endless header", { growth: 4 * MIB }, async (target) => {
  for (const path of [HANDSHAKE, "/echo", "/nothing"]) {
    const connection = await target.connect();
    await connection.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nX: `);
    const spent = await target.processorTime(async () => {
      for (let sent = 0; sent < 10_000 && !connection.ended; sent += 1) await connection.write("x".repeat(1024));
      await connection.refused({ statuses: [431] });
    });
    assert.ok(spent <= 300, `${spent} ms`);
  }
  // Byte by byte: earlier bytes must not be parsed again each time.
  const drip = await target.connect();
  await drip.write(`GET /echo HTTP/1.1\r\nHost: a\r\nX: `);
  const spent = await target.processorTime(async () => {
    for (let sent = 0; sent < 65_536 && !drip.ended; sent += 1) {
      const written = drip.write("x");
      if (sent % 64 === 0) await written;
    }
    await drip.refused({ statuses: [431] });
  });
  assert.ok(spent <= 1500, `${spent} ms`);
  return `byte by byte ${spent} ms`;
});

attack("CVE-2026-54465 endless headers", { growth: 4 * MIB }, async (target) => {
  for (const header of ["X-{}: y\r\n", "X: y\r\n", "x-{}:\r\n", `X-{}: ${"y".repeat(4000)}\r\n`]) {
    const connection = await target.connect();
    await connection.write("GET /echo HTTP/1.1\r\nHost: a\r\n");
    for (let sent = 0; sent < 1000 && !connection.ended; sent += 1) {
      const batch = Array.from({ length: 100 }, (_, at) => header.replace("{}", sent * 100 + at)).join("");
      await connection.write(batch);
    }
    await connection.refused({ statuses: [431] });
  }
});

attack("CVE-2026-61666 malformed hosts", { growth: 2 * MIB }, async (target) => {
  const sid = await target.session();
  const hosts = [
    "[",
    "]",
    "[::1",
    "a b",
    "",
    "a/b",
    "user@a",
    ":80",
    "a:b",
    "a:65536",
    "a:1:2",
    "\xe4",
    "a\tb",
    "a, b",
    "<a>",
  ];
  for (const host of hosts) {
    for (const path of [HANDSHAKE, "/socket.io/?EIO=4&transport=polling", `${HANDSHAKE}&sid=${sid}`]) {
      await target.refuses(Buffer.from(httpRequest("GET", path, [["Host", host]]), "latin1"), { statuses: [400] });
    }
    await target.refuses(Buffer.from(upgradeRequest("/echo", [["Host", host]]), "latin1"), { statuses: [400] });
  }
  for (const headers of [
    [],
    [
      ["Host", "a"],
      ["Host", "a"],
    ],
    [
      ["Host", "a"],
      ["Host", "b"],
    ],
  ]) {
    await target.refuses(httpRequest("GET", HANDSHAKE, headers), { statuses: [400] });
    const upgrade = upgradeRequest("/echo", [["Host", null], ...headers]);
    await target.refuses(upgrade, { statuses: [400] });
  }
  for (const host of ["a", "a.example:80", "127.0.0.1:3000", "[::1]:80", "a_b"]) {
    assert.equal(
      (await target.refuses(httpRequest("GET", HANDSHAKE, [["Host", host]]), { statuses: [200] })).status,
      200,
    );
  }
});

attack(
  "centrifugo cc951d84 very many paths",
  { growth: 4 * MIB, app: "demo", flags: { "admin-addr": "127.0.0.1:0" } },
  async (target) => {
    const admin = /http:\/\/127\.0\.0\.1:(\d+)\/metrics/.exec(target.server.output)?.[1];
    assert.ok(admin, `no address of the metrics: ${target.server.output}`);
    const series = async () => {
      const { body } = await request(`http://127.0.0.1:${admin}/metrics`);
      return body.split("\n").filter((line) => line && !line.startsWith("#")).length;
    };
    const before = await series();
    for (let round = 0; round < 200; round += 1) {
      const connection = await target.connect();
      const paths = ["/", "/socket.io/?EIO=4&transport=", "/ws", "/socket.io/?EIO=4&transport=polling&sid="];
      const requests = Array.from({ length: 100 }, (_, at) => httpRequest("GET", `${paths[at % 4]}${round}-${at}`));
      connection.write(requests.join(""));
      await connection.until(() => responses(connection.received).length === 100, "not all are answered", 5000);
      connection.destroy();
    }
    assert.equal(await series(), before);
    return `20000 paths, ${before} series`;
  },
);
