// Custom attacks on connections and sessions. See README.md for the rows.
import assert from "node:assert/strict";
import { attack, MIB, pause } from "../lib/attack.js";
import { request } from "../lib/http.js";
import { frame, httpRequest, OPCODES, RawConnection, responses, text, upgradeRequest } from "../lib/raw.js";

const POLLING = "EIO=4&transport=polling";
const WEBSOCKET = "EIO=4&transport=websocket";

/** Timings with which a silent client is closed after 0.8 seconds */
const BRISK = { "ping-interval": 500, "ping-timeout": 300 };

attack("OWN-7 very many upgrades of one session at once", { growth: 16 * MIB }, async (target) => {
  for (const path of ["/engine.io/", "/socket.io/"]) {
    const sid = await target.session(path);
    const connections = await Promise.all(Array.from({ length: 200 }, () => target.connect()));
    const handshake = upgradeRequest(`${path}?${WEBSOCKET}&sid=${sid}`);
    for (const [at, connection] of connections.entries()) {
      const early = at % 3 ? [text("2probe")] : [text("2probe"), text("5")];
      connection.write(Buffer.concat([Buffer.from(handshake), ...early]));
    }
    await Promise.all(
      connections.map((connection) =>
        connection.until(() => connection.ended || connection.size > 0, "no answer", 3000),
      ),
    );
    const opened = connections.filter(({ answer }) => answer.startsWith("HTTP/1.1 101"));
    assert.ok(opened.length >= 1, "none was accepted");
    // One attempt at a time is allowed: all others are rejected or closed.
    const alive = () => opened.filter(({ ended }) => !ended).length;
    await target.eventually(
      () => alive() <= 1,
      () => `${alive()} WebSockets share a session`,
      1000,
    );
  }
});

attack("OWN-8 connect and disconnect floods", { growth: 24 * MIB, settle: 3000 }, async (target) => {
  const churn = async (round) => {
    const kind = round % 8;
    if (kind < 2) {
      const client = await target.engine();
      if (kind === 0) client.reset();
      else client.destroy();
    } else if (kind < 4) {
      const connection = await target.connect();
      const sid = await target.session("/socket.io/");
      const poll = httpRequest("GET", `/socket.io/?${POLLING}&sid=${sid}`);
      await connection.write(poll);
      if (kind === 2) connection.reset();
      else connection.destroy();
    } else if (kind === 4) {
      const connection = await target.connect();
      const sid = await target.session();
      await connection.write(
        httpRequest(
          "POST",
          `/engine.io/?${POLLING}&sid=${sid}`,
          [
            ["Host", "a"],
            ["Content-Length", 100],
          ],
          "4ab",
        ),
      );
      connection.reset();
    } else if (kind === 5) {
      const sid = await target.session();
      const probe = await target.webSocket(`/engine.io/?${WEBSOCKET}&sid=${sid}`);
      probe.send(text("2probe"));
      probe.reset();
      const gone = await target.connect();
      gone.write(
        httpRequest(
          "POST",
          `/engine.io/?${POLLING}&sid=${sid}`,
          [
            ["Host", "a"],
            ["Content-Length", 1],
          ],
          "1",
        ),
      );
      await gone.response();
      gone.destroy();
    } else if (kind === 6) {
      const connection = await target.connect();
      await connection.write(upgradeRequest(`/socket.io/?${WEBSOCKET}`).slice(0, 40 + (round % 90)));
      connection.reset();
    } else {
      (await target.connect()).reset();
    }
  };
  for (let round = 0; round < 1600; round += 40)
    await Promise.all(Array.from({ length: 40 }, (_, at) => churn(round + at)));
  return "1600 of them";
});

attack(
  "OWN-9 very slow headers",
  { growth: 16 * MIB, app: "demo", flags: { "header-timeout": "600ms" } },
  async (target) => {
    const request = upgradeRequest("/ws", [["X", "y".repeat(2000)]]);
    const connections = await Promise.all(Array.from({ length: 300 }, () => target.connect()));
    const began = performance.now();
    for (let at = 0; at < 16; at += 1) {
      for (const [number, connection] of connections.entries()) {
        // A third of them send nothing.
        if (number % 3) connection.write(request[at]);
      }
      await pause(100);
    }
    const open = () => connections.filter(({ ended }) => !ended).length;
    await target.eventually(
      () => open() === 0,
      () => `${open()} connections are still open`,
      1000,
    );
    return `300 of them, gone after ${(performance.now() - began).toFixed()} ms`;
  },
);

attack("OWN-10 very slow bodies", { growth: 16 * MIB, flags: BRISK }, async (target) => {
  const connections = [];
  for (let number = 0; number < 100; number += 1) {
    const sid = await target.session();
    const connection = await target.connect();
    const headers = [["Host", "a"], number % 2 ? ["Content-Length", 100_000] : ["Transfer-Encoding", "chunked"]];
    connection.write(httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, headers));
    connection.byte = number % 2 ? "4" : "1\r\n4\r\n";
    connections.push(connection);
  }
  for (let at = 0; at < 15; at += 1) {
    for (const connection of connections) connection.write(connection.byte);
    await pause(100);
  }
  const open = () => connections.filter(({ ended }) => !ended).length;
  await target.eventually(
    () => open() === 0,
    () => `${open()} connections are still open`,
    1500,
  );
  // Without a session, the server does not wait for the body.
  for (const path of [`/engine.io/?${POLLING}&sid=nobody`, `/engine.io/?${POLLING}`, "/echo", "/nothing"]) {
    const connection = await target.connect();
    connection.write(
      httpRequest(
        "POST",
        path,
        [
          ["Host", "a"],
          ["Content-Length", 100_000],
        ],
        "4",
      ),
    );
    await connection.refused();
    await connection.untilEnded();
  }
});

attack("OWN-11 unexpected bodies", { growth: 8 * MIB }, async (target) => {
  const part = "x".repeat(65_536);
  for (const body of [
    ["Content-Length", 100 * MIB],
    ["Content-Length", 1],
    ["Transfer-Encoding", "chunked"],
  ]) {
    const sid = await target.session();
    const headers = [["Host", "a"], body];
    const requests = [`/engine.io/?${POLLING}`, `/engine.io/?${POLLING}&sid=${sid}`, "/nothing"]
      .map((path) => httpRequest("GET", path, headers))
      .concat(["/echo", `/engine.io/?${WEBSOCKET}&sid=${sid}`].map((path) => upgradeRequest(path, [body])));
    for (const bytes of requests) {
      const connection = await target.connect();
      connection.write(bytes);
      for (let sent = 0; sent < 100 && !connection.ended; sent += 1)
        await Promise.race([connection.write(part), pause(50)]);
      await connection.refused();
      await connection.untilEnded();
    }
  }
  const sid = await target.session();
  const empty = [
    ["Host", "a"],
    ["Content-Length", 0],
  ];
  await target.refuses(httpRequest("GET", `/engine.io/?${POLLING}`, empty), { statuses: [200] });
  await target.refuses(upgradeRequest(`/engine.io/?${WEBSOCKET}&sid=${sid}`, [["Content-Length", 0]]), {
    statuses: [101],
  });
});

attack("OWN-12 pipelined requests", { growth: 16 * MIB }, async (target) => {
  const sid = await target.session();
  const post = (body) =>
    httpRequest(
      "POST",
      `/engine.io/?${POLLING}&sid=${sid}`,
      [
        ["Host", "a"],
        ["Content-Length", body.length],
      ],
      body,
    );
  const poll = httpRequest("GET", `/engine.io/?${POLLING}&sid=${sid}`);
  // Responses are in the order of the requests, without losses or duplicates.
  const connection = await target.connect();
  connection.write([post("4a"), poll, post("4b"), poll, httpRequest("GET", "/nothing"), post("4c"), poll].join(""));
  await connection.until(() => responses(connection.received).length === 7, "not all are answered", 2000);
  assert.deepEqual(
    responses(connection.received).map(({ status, body }) => [status, body]),
    [
      [200, "ok"],
      [200, "4a"],
      [200, "ok"],
      [200, "4b"],
      [404, ""],
      [200, "ok"],
      [200, "4c"],
    ],
  );
  const many = await target.connect();
  many.write(httpRequest("GET", "/nothing").repeat(5000));
  await many.until(() => responses(many.received).length === 5000, "not all are answered", 5000);
  // A pending poll blocks only the requests after it on its connection.
  const waits = await target.connect();
  waits.write(poll + httpRequest("GET", "/nothing").repeat(1000));
  await pause(200);
  assert.equal(waits.size, 0);
  assert.equal(
    (await request(`${target.url}/engine.io/?${POLLING}&sid=${sid}`, { method: "POST", body: "4d" })).status,
    200,
  );
  await waits.until(() => responses(waits.received).length === 1001, "not all are answered", 2000);
});

attack(
  "OWN-13 unread responses",
  { growth: 48 * MIB, app: "demo", flags: { "keep-alive-timeout": "1s", "header-timeout": "1s" } },
  async (target) => {
    const connections = await Promise.all(Array.from({ length: 20 }, () => target.connect()));
    for (const connection of connections) {
      connection.socket.pause();
      const page = httpRequest("GET", "/client.js").repeat(200);
      for (let sent = 0; sent < 50; sent += 1) {
        if ((await Promise.race([connection.write(page), pause(50).then(() => "stuck")])) === "stuck") break;
      }
    }
    const before = target.descriptors();
    await target.eventually(
      () => target.descriptors() <= before - 20,
      () => "they are still being waited for",
      4000,
    );
  },
);

attack("OWN-14 trailers after chunks", { growth: 4 * MIB }, async (target) => {
  const sid = await target.session();
  const head = httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, [
    ["Host", "a"],
    ["Transfer-Encoding", "chunked"],
    ["Trailer", "X"],
  ]);
  const fine = await target.connect();
  const trailers = "X: y\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n";
  fine.write(`${head}3\r\n4ab\r\n0\r\n${trailers}${httpRequest("GET", "/nothing")}`);
  assert.deepEqual([(await fine.response()).body, (await fine.response({ skip: 1 })).status], ["ok", 404]);
  const poll = await request(`${target.url}/engine.io/?${POLLING}&sid=${sid}`);
  assert.equal(poll.body, "4ab", "trailers are not part of the body");
  for (const trailer of ["X: y\r\n", `X: ${"y".repeat(100_000)}\r\n`]) {
    const own = await target.session();
    const endless = await target.connect();
    await endless.write(`${head.replace(sid, own)}3\r\n4ab\r\n0\r\n`);
    for (let sent = 0; sent < 10_000 && !endless.ended; sent += 1) await endless.write(trailer);
    await endless.untilEnded();
  }
});

attack("OWN-15 half-closed connections", { growth: 4 * MIB }, async (target) => {
  for (const bytes of ["", "GET", httpRequest("GET", "/nothing"), httpRequest("GET", `/engine.io/?${POLLING}`)]) {
    const connection = await target.connect();
    await connection.write(bytes);
    connection.finish();
    await connection.untilEnded();
    // The response may be missing: for a poll, a half-close means that its client has disconnected.
    assert.ok(responses(connection.received).length <= (bytes.includes("\r\n\r\n") ? 1 : 0));
  }
  const sid = await target.session();
  const poll = await target.connect();
  await poll.write(httpRequest("GET", `/engine.io/?${POLLING}&sid=${sid}`));
  poll.finish();
  await poll.untilEnded();
  const half = await target.connect();
  await half.write(
    httpRequest(
      "POST",
      `/engine.io/?${POLLING}&sid=${await target.session()}`,
      [
        ["Host", "a"],
        ["Content-Length", 9],
      ],
      "4ab",
    ),
  );
  half.finish();
  await half.untilEnded();
  for (const path of [`/engine.io/?${WEBSOCKET}`, `/socket.io/?${WEBSOCKET}`, "/echo"]) {
    for (const last of [[], [frame("x").subarray(0, 3)], [frame("x", { fin: false })]]) {
      const client = await target.webSocket(path);
      await client.send(...last);
      client.finish();
      await client.untilEnded();
    }
  }
});

attack("OWN-16 frames in the same segment as the handshake", { growth: 4 * MIB }, async (target) => {
  const echo = await target.webSocket("/echo", { early: [frame("a"), frame("b"), frame("c")] });
  assert.deepEqual([await echo.text(), await echo.text(), await echo.text()], ["a", "b", "c"]);
  const engine = await target.webSocket(`/engine.io/?${WEBSOCKET}`, {
    early: [text("4a"), frame("4bc").subarray(0, 5)],
  });
  engine.send(frame("4bc").subarray(5));
  assert.match(await engine.text(), /^0\{/);
  assert.deepEqual([await engine.text(), await engine.text()], ["4a", "4bc"]);
  const socket = await target.webSocket(`/socket.io/?${WEBSOCKET}`, {
    early: [text("40"), text('421["message-with-ack","x"]')],
  });
  const heard = [];
  for (let left = 4; left > 0; left -= 1) heard.push(await socket.text());
  assert.equal(heard.at(-1), '431["x"]');
  const large = await target.webSocket("/echo", { early: [frame("x".repeat(500_000))] });
  assert.equal((await large.text(3000)).length, 500_000);
  // The limits apply here too.
  const over = await target.webSocket("/echo", { early: [frame("", { declared: 1_000_001 })] });
  assert.equal((await over.untilClosed()).code, 1009);
  const flood = await target.connect();
  flood.write(
    Buffer.concat([
      Buffer.from(upgradeRequest("/socket.io/?EIO=4&transport=websocket&sid=nobody")),
      Buffer.alloc(500_000, 0x81),
    ]),
  );
  await flood.refused();
});

attack("OWN-17 overlapping requests of one client", { growth: 8 * MIB }, async (target) => {
  for (let round = 0; round < 20; round += 1) {
    const sid = await target.session(round % 2 ? "/engine.io/" : "/socket.io/");
    const url = `${round % 2 ? "/engine.io/" : "/socket.io/"}?${POLLING}&sid=${sid}`;
    const connections = await Promise.all(Array.from({ length: 40 }, () => target.connect()));
    for (const [at, connection] of connections.entries()) {
      if (at % 2) connection.write(httpRequest("GET", url));
      else
        connection.write(
          httpRequest(
            "POST",
            url,
            [
              ["Host", "a"],
              ["Content-Length", 3],
            ],
            at % 4 ? "4ab" : "4",
          ),
        );
    }
    const open = () => connections.filter(({ ended, size }) => !ended && size === 0).length;
    // At most one poll may stay pending, if it arrived after the others were rejected.
    await target.eventually(
      () => open() <= 1,
      () => `${open()} requests are not answered`,
      2000,
    );
    for (const connection of connections) connection.destroy();
  }
});

attack(
  "OWN-18 connections over the limit",
  { growth: 16 * MIB, app: "demo", flags: { "max-connections": 60 } },
  async (target) => {
    const connections = await Promise.all(Array.from({ length: 300 }, () => RawConnection.open(target.port)));
    for (const connection of connections) connection.write(upgradeRequest("/ws"));
    const open = () => connections.filter((connection) => connection.answer.startsWith("HTTP/1.1 101")).length;
    const told = () => connections.filter((connection) => connection.answer.startsWith("HTTP/1.1 503")).length;
    await target.eventually(
      () => open() + told() === 300,
      () => `${open()} open, ${told()} told why not`,
      3000,
    );
    assert.ok(open() <= 60 && open() >= 50, `${open()} are open`);
    // Capacity returns as soon as a client disconnects.
    connections.forEach((connection) => connection.destroy());
    await target.eventually(
      async () => (await target.ask("GET", "/")).status === 200,
      () => "no new connection is accepted",
      2000,
    );
    return `${told()} were told that there is no room`;
  },
);

attack("OWN-19 packets of the wrong direction", { growth: 4 * MIB }, async (target) => {
  const packets = [
    "0",
    '0{"sid":"x"}',
    "1",
    "2",
    "2probe",
    "3",
    "3probe",
    "5",
    "6",
    "7",
    "",
    "b",
    "bAAAA",
    "4",
    "\0",
    "\ufeff4",
    "4\ud83d",
  ];
  for (const packet of packets) {
    for (const path of ["/engine.io/", "/socket.io/"]) {
      const client = await target.webSocket(`${path}?${WEBSOCKET}`);
      await client.text();
      client.send(text(packet), text("4x"));
      await client.until(() => client.ended || client.frames.length > 0 || packet === "3", `${path} ${packet}`, 2000);
      client.destroy();
    }
  }
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535]) {
    const client = await target.webSocket("/echo");
    client.send(frame(Buffer.of(code >> 8, code & 0xff), { opcode: OPCODES.close }));
    assert.equal((await client.untilClosed()).code, 1002);
  }
  // Frames after a close frame are ignored.
  const closed = await target.webSocket("/echo");
  closed.send(frame("", { opcode: OPCODES.close }), frame("x"), frame("", { opcode: OPCODES.ping }));
  await closed.untilEnded();
  assert.deepEqual(
    closed.frames.map(({ opcode }) => opcode),
    [OPCODES.close],
  );
});

attack(
  "OWN-20 aborted polls with pipelined data",
  { growth: 8 * MIB, flags: BRISK, settle: 2500 },
  async (target) => {
    for (let number = 0; number < 200; number += 1) {
      const connection = await target.connect();
      const sid = await target.session();
      // With unread input, the HTTP library detects the end of a connection only when it writes: at the
      // heartbeat.
      await connection.write(httpRequest("GET", `/engine.io/?${POLLING}&sid=${sid}`) + httpRequest("GET", "/nothing"));
      connection.reset();
    }
  },
);
