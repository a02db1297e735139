// Attacks on Engine.IO: sessions, their requests and upgrades. See README.md for the rows.
import assert from "node:assert/strict";
import { attack, MIB, pause } from "../lib/attack.js";
import { begin, request } from "../lib/http.js";
import { threads } from "../lib/process.js";
import { frame, httpRequest, OPCODES, responses, text, upgradeRequest } from "../lib/raw.js";
import { SEPARATOR } from "../lib/session.js";

const POLLING = "EIO=4&transport=polling";
const WEBSOCKET = "EIO=4&transport=websocket";
const MAX_PAYLOAD = 1_000_000;

/** The default outbox limit, unlike the conformance suites */
const OUTBOX = { outbox: MIB };

/** Timings with which a session without polls ends after 1.5 seconds */
const SHORT_LIVED = { "ping-interval": 1000, "ping-timeout": 500 };

/** URL of a polling session */
const address = (sid, path = "/engine.io/") => `${path}?${POLLING}&sid=${sid}`;

/** One POST of a session; resolves to its response */
const post = (target, sid, body, options) =>
  request(`${target.url}${address(sid)}`, { method: "POST", body, ...options });

attack("CVE-2020-36048 one POST with very many packets", { growth: 24 * MIB, flags: OUTBOX }, async (target) => {
  const notes = [];
  // A payload of pongs is valid, one of messages is echoed, one of pings violates the protocol with its first packet.
  for (const packet of ["3", "4", "6", "2", "", "b", "4x"]) {
    const sid = await target.session();
    const body = `${packet}${SEPARATOR}`.repeat(MAX_PAYLOAD / (packet.length + 1));
    let answer;
    const spent = await target.processorTime(async () => (answer = await post(target, sid, body)));
    assert.ok([200, 400].includes(answer.status), `${answer.status}`);
    notes.push(`${JSON.stringify(packet)} ${spent} ms`);
    // Debug build, with every packet parsed.
    assert.ok(spent <= 3000, `${JSON.stringify(packet)} took ${spent} ms`);
  }
  for (const body of ["1:2".repeat(MAX_PAYLOAD / 3), `99999999999:${"2".repeat(1000)}`, "9".repeat(MAX_PAYLOAD)]) {
    const sid = await target.session();
    assert.ok([200, 400].includes((await post(target, sid, body)).status));
    const poll = await request(`${target.url}${address(sid)}`);
    assert.ok(poll.status === 400 || poll.body.endsWith("1"), "an invalid packet ends the session");
  }
  // Over the limit: by declared length, and by received bytes.
  const sid = await target.session();
  const declared = httpRequest(
    "POST",
    address(sid),
    [
      ["Host", "a"],
      ["Content-Length", 10 * MAX_PAYLOAD],
    ],
    "4x",
  );
  const waits = await target.connect();
  waits.write(declared);
  for (let sent = 0; sent < 20 && responses(waits.received).length === 0; sent += 1) {
    await waits.write("x".repeat(100_000));
    await pause(5);
  }
  assert.equal((await waits.refused({ statuses: [413] })).status, 413);
  const chunked = begin(`${target.url}${address(await target.session())}`, { method: "POST" });
  let answered = false;
  chunked.response.then(
    () => (answered = true),
    () => (answered = true),
  );
  for (let sent = 0; sent < 100 && !answered; sent += 1) {
    chunked.write("x".repeat(100_000));
    await pause(5);
  }
  assert.equal((await chunked.response).status, 413);
  chunked.abort();
  return notes.join(", ");
});

attack("CVE-2023-31125 upgrades with a bad transport", { growth: 2 * MIB }, async (target) => {
  const sid = await target.session();
  const names = [
    "",
    "abc",
    "constructor",
    "__proto__",
    "toString",
    "polling",
    "webtransport",
    "websocket%00",
    "WebSocket",
  ];
  const queries = [
    "EIO=4",
    ...names.map((name) => `EIO=4&transport=${name}`),
    "EIO=4&transport",
    "EIO=4&transport=websocket&transport=polling",
    "EIO=4&transport=polling&transport=websocket",
    "EIO=4&transport=websocket&transport=websocket",
    "EIO=4&transport[]=websocket",
    "EIO=4&transport=websocket&sid=a&sid=b",
    `${WEBSOCKET}&sid=${sid}&sid=${sid}`,
  ];
  for (const path of ["/engine.io/", "/socket.io/"]) {
    for (const query of queries) {
      await target.refuses(upgradeRequest(`${path}?${query}`), { statuses: [400] });
      await target.refuses(upgradeRequest(`${path}?${query}&sid=${sid}`), { statuses: [400] });
    }
  }
  assert.equal((await post(target, sid, "4still there")).status, 200);
});

attack("CVE-2026-59725 POSTs with binary content are answered", { growth: 4 * MIB }, async (target) => {
  const kinds = ["application/octet-stream", "Application/Octet-Stream; charset=x", "application/octet-stream;"];
  for (let round = 0; round < 150; round += 1) {
    const sid = await target.session(round % 2 ? "/engine.io/" : "/socket.io/");
    const path = address(sid, round % 2 ? "/engine.io/" : "/socket.io/");
    const connection = await target.connect();
    const headers = [
      ["Host", "a"],
      ["Content-Type", kinds[round % 3]],
      ["Content-Length", 4],
    ];
    connection.write(httpRequest("POST", path, headers, "4abc"));
    const answer = await connection.response();
    assert.equal(answer.status, 400);
    // The connection is closed, or usable for another request.
    connection.write(httpRequest("GET", path));
    await connection.until(
      () => connection.ended || responses(connection.received).length === 2,
      "the connection hangs",
    );
    if (round % 2) connection.destroy();
  }
});

attack("CVE-2026-102599 upgrades with another protocol revision", { growth: 2 * MIB }, async (target) => {
  for (const version of ["&EIO=3", "", "&EIO=", "&EIO=4&EIO=3", "&EIO=3&EIO=4", "&EIO=5", "&EIO=04", "&EIO=4%00"]) {
    const sid = await target.session();
    await target.refuses(upgradeRequest(`/engine.io/?transport=websocket&sid=${sid}${version}`), { statuses: [400] });
    assert.equal((await post(target, sid, "4still there")).status, 200);
    const answer = await request(`${target.url}/engine.io/?transport=polling&sid=${sid}${version}`);
    assert.equal(answer.status, 400);
  }
  // With the right revision, the heartbeat of the other one is only a protocol error.
  for (const packets of [["2"], ["3"], ["2x"], ["2probe", "2"], ["2probe", "5", "2"], ["2probe", "5", "2probe"]]) {
    const sid = await target.session();
    const probe = await target.webSocket(`/engine.io/?${WEBSOCKET}&sid=${sid}`);
    probe.send(...packets.map(text));
    await probe.untilClosed();
  }
});

attack(
  "CVE-2017-16031 ids are unpredictable",
  { growth: 64 * MIB, flags: SHORT_LIVED, settle: 4000 },
  async (target) => {
    const sids = await handshakes(target, 20_000);
    assert.equal(new Set(sids).size, sids.length, "an id came twice");
    assert.ok(
      sids.every((sid) => /^[A-Za-z0-9_-]{20,}$/.test(sid)),
      `an id is ${sids[0]}`,
    );
    looksRandom(sids);
    // Differences to the previous id would reveal a counter or a clock.
    const bytes = sids.map((sid) => Buffer.from(sid, "base64url"));
    looksRandom(
      bytes
        .slice(1)
        .map((id, at) => Buffer.from(id.map((byte, place) => byte ^ bytes[at][place])).toString("base64url")),
    );

    const client = await target.socket();
    assert.notEqual(client.joined.sid, client.opened.sid);
    const polled = await target.session();
    assert.equal((await post(target, client.joined.sid, "3")).status, 400, "a public id must not identify a session");
    assert.equal((await post(target, polled, "3")).status, 200);
  },
);

/** Checks that each of 120 bits of base64url texts is set in half of them, within seven standard deviations */
function looksRandom(ids) {
  const counts = new Array(120).fill(0);
  for (const id of ids) {
    const bytes = Buffer.from(id, "base64url");
    for (let bit = 0; bit < 120; bit += 1) counts[bit] += (bytes[bit >> 3] >> (bit & 7)) & 1;
  }
  const allowed = 7 * Math.sqrt(ids.length / 4);
  counts.forEach((count, bit) => {
    assert.ok(Math.abs(count - ids.length / 2) <= allowed, `bit ${bit} is set in ${count} of ${ids.length}`);
  });
}

/** Opens sessions as fast as the server answers, over several connections; resolves to their ids */
async function handshakes(target, count, { connections = 8, depth = 50 } = {}) {
  const sids = [];
  const bytes = Buffer.from(httpRequest("GET", `/engine.io/?${POLLING}`).repeat(depth));
  const run = async () => {
    const connection = await target.connect();
    while (sids.length < count) {
      connection.parts = [];
      connection.size = 0;
      connection.write(bytes);
      const answered = () => connection.size > 0 && responses(connection.received).length === depth;
      await connection.until(answered, "handshakes are not answered", 20_000);
      for (const { body } of responses(connection.received)) sids.push(JSON.parse(body.slice(1)).sid);
    }
    connection.destroy();
  };
  await Promise.all(Array.from({ length: connections }, run));
  return sids;
}

attack(
  "socketioxide 3fe9692d 100,000 handshakes without a poll",
  { growth: 40 * MIB, flags: { "ping-interval": 400, "ping-timeout": 600 }, settle: 3000 },
  async (target) => {
    const before = target.memory();
    const seen = new Set();
    for (let round = 0; round < 10; round += 1) {
      const sids = await handshakes(target, 10_000);
      sids.forEach((sid) => seen.add(sid));
      assert.ok(seen.size >= 10_000 * (round + 1), "an id came twice");
      const isGone = async () => (await post(target, sids.at(-1), "6")).status === 400;
      await target.eventually(isGone, () => "a session without polls still exists", 5000);
    }
    // Ten thousand need 22 MiB, which the next ones reuse. A leak of a hundred bytes each would be 10 MiB in the end.
    const kept = target.memory() - before;
    assert.ok(kept <= 30 * MIB, `${(kept / MIB).toFixed(1)} MiB retained`);
    return `${(kept / MIB).toFixed(1)} MiB kept`;
  },
);

attack("CVE-2020-28481 pages of other origins cannot read by default", { growth: 2 * MIB }, async (target) => {
  const foreign = [["Origin", "http://evil.example"]];
  for (const path of ["/engine.io/", "/socket.io/"]) {
    for (const [method, extra] of [
      ["GET", []],
      ["OPTIONS", [["Access-Control-Request-Method", "POST"]]],
      ["POST", []],
    ]) {
      const answer = await target.ask(method, `${path}?${POLLING}`, [...foreign, ...extra]);
      for (const name of Object.keys(answer.headers)) assert.ok(!name.startsWith("access-control-"), name);
    }
  }
});

attack(
  "CVE-2020-28481 any origin, without cookies",
  { growth: 2 * MIB, flags: { cors: "*" } },
  async (target) => {
    for (const method of ["GET", "OPTIONS"]) {
      const answer = await target.ask(method, `/engine.io/?${POLLING}`, [["Origin", "http://evil.example"]]);
      assert.equal(answer.headers["access-control-allow-origin"], "*");
      assert.equal(answer.headers["access-control-allow-credentials"], undefined);
    }
  },
);

attack("CVE-2026-102600 prototype property names as session ids", { growth: 2 * MIB }, async (target) => {
  for (const sid of ["__proto__", "constructor", "toString", "hasOwnProperty", "%00", "..%2f", "a".repeat(8000)]) {
    for (const path of ["/engine.io/", "/socket.io/"]) {
      for (const method of ["GET", "POST", "PUT", "DELETE", "OPTIONS"]) {
        const { status } = await target.ask(method, address(sid, path));
        assert.ok(status >= 400 && status < 500, `${method} with ${sid.slice(0, 20)} got ${status}`);
      }
      await target.refuses(upgradeRequest(`${path}?${WEBSOCKET}&sid=${sid}`), { statuses: [400, 414, 431] });
    }
  }
});

attack("socketioxide 29dc67c1 b61d5220 bodies of Engine.IO revision 3", { growth: 2 * MIB }, async (target) => {
  assert.equal((await target.ask("GET", "/engine.io/?EIO=3&transport=polling")).status, 400);
  const bodies = [":", "5:", "-1:2", "0:", "3:4€", "99:4a", "1:2".repeat(1000), "\0\x01\xff4a", "\x01\x09\xff"];
  for (const body of bodies) {
    const sid = await target.session();
    assert.ok([200, 400].includes((await post(target, sid, body)).status));
    // For revision 4 some of them are ignored packets. The session must still work then.
    if ((await post(target, sid, "4on")).status === 200) {
      const poll = await request(`${target.url}${address(sid)}`);
      assert.ok(["4on", "1"].includes(poll.body), poll.body);
    }
  }
});

attack("socketioxide 656b3376 binary whose base64 begins with a 4", { growth: 2 * MIB }, async (target) => {
  const bytes = Buffer.from("4AAA", "base64");
  const sid = await target.session();
  await post(target, sid, `b4AAA${SEPARATOR}b${Buffer.from([0xe1, 1]).toString("base64")}${SEPARATOR}4b`);
  const { body } = await request(`${target.url}${address(sid)}`);
  assert.equal(body, `b4AAA${SEPARATOR}b4QE=${SEPARATOR}4b`);
  const client = await target.engine();
  client.send(frame(bytes, { opcode: OPCODES.binary }));
  assert.deepEqual((await client.next(OPCODES.binary)).payload, bytes);
});

attack("socketioxide 304dddee separators after a pending poll", { growth: 2 * MIB }, async (target) => {
  const sid = await target.session();
  for (let round = 0; round < 50; round += 1) {
    const poll = request(`${target.url}${address(sid)}`);
    await pause(1);
    const packets = [`4${round}`, "4b", "4"];
    await post(target, sid, packets.join(SEPARATOR));
    let got = (await poll).body.split(SEPARATOR);
    while (got.length < packets.length)
      got = got.concat((await request(`${target.url}${address(sid)}`)).body.split(SEPARATOR));
    assert.deepEqual(got, packets);
  }
});

attack("CVE-2026-48802 very many events for slow handlers", { growth: 48 * MIB, settle: 3000 }, async (target) => {
  const before = threads(target.pid);
  const event = `42["slow"]`;
  const most = Math.floor(MAX_PAYLOAD / (event.length + 1));
  const sid = await target.session("/socket.io/");
  const url = `${target.url}${address(sid, "/socket.io/")}`;
  const send = (body) => request(url, { method: "POST", body });
  assert.equal((await send("40")).status, 200);
  await request(url);
  await send(Array(most).fill(event).join(SEPARATOR));
  assert.equal((await send("3")).status, 400, "all packets were accepted");

  const client = await target.socket();
  const events = Buffer.concat(Array(10_000).fill(text(event)));
  for (let sent = 0; sent < 10 && !client.ended; sent += 1) await client.write(events);
  assert.deepEqual(await client.untilClosed(5000), { code: 1008, reason: "overloaded" });
  assert.equal(threads(target.pid), before);
  return `${most} in one POST, 100000 by WebSocket`;
});

attack(
  "CVE-2026-48802 very many acks requested from a silent client",
  { growth: 24 * MIB, flags: OUTBOX },
  async (target) => {
    const client = await target.socket();
    const events = Buffer.concat(Array(10_000).fill(text('42["emit-with-ack",1]')));
    for (let sent = 0; sent < 3 && !client.ended; sent += 1) await client.write(events);
    client.send(text('429["message-with-ack",1]'));
    const isAnswer = ({ payload }) => payload.toString() === "439[1]";
    await client.until(() => client.frames.some(isAnswer) || client.ended, "no answer", 10_000);
    // Up to a thousand acks may be pending; further events with acks are not sent.
    const asked = client.frames.filter(({ payload }) => /^42\d+\["emit-with-ack",1\]$/.test(payload.toString()));
    assert.equal(asked.length, 1000);
  },
);

attack("CVE-2026-48809 chunked bodies over the limit", { growth: 8 * MIB }, async (target) => {
  for (const path of ["/engine.io/", "/socket.io/"]) {
    const sid = await target.session(path);
    const body = begin(`${target.url}${address(sid, path)}`, { method: "POST" });
    let answered = false;
    body.response.then(
      () => (answered = true),
      () => (answered = true),
    );
    for (let sent = 0; sent < 2000 && !answered; sent += 1) {
      body.write("4".repeat(10_000));
      if (sent % 20 === 0) await pause(1);
    }
    assert.equal((await body.response).status, 413);
    body.abort();
  }
});
