// Attacks of our own on what nobody else has, and on what everybody forgets. See README.md for the rows.
import assert from "node:assert/strict";
import { attack, MIB, pause } from "../lib/attack.js";
import { request } from "../lib/http.js";
import { binary, frame, httpRequest, OPCODES, RawConnection, responses, text, upgradeRequest } from "../lib/raw.js";

const POLLING = "EIO=4&transport=polling";
const WEBSOCKET = "EIO=4&transport=websocket";
const JSON_MODE = { headers: [["Sec-WebSocket-Protocol", "roomcast.json"]] };
const OUTBOX = { outbox: MIB };

/** Bytes of text that are just within the limit of a message */
const LONG = 900_000;

/** A client in JSON mode that was let in */
async function json(target, path = "/echo") {
  const client = await target.webSocket(path, JSON_MODE);
  client.welcome = JSON.parse(await client.text());
  assert.equal(typeof client.welcome[0].sid, "string");
  return client;
}

/** Fails unless a client in JSON mode that sends these is told why, and closed; resolves to what it was told */
async function violates(target, ...frames) {
  const client = await json(target);
  client.send(...frames);
  const { code } = await client.untilClosed(2000);
  assert.ok([1007, 1008, 1009].includes(code), `closed with ${code}`);
  const said = client.frames.find(({ opcode }) => opcode === OPCODES.text);
  client.destroy();
  return said && JSON.parse(said.payload.toString())[0].error.message;
}

/** Fails unless what these frames ask for takes no more than `most` milliseconds of processor time */
async function cheap(target, what, most, work) {
  const spent = await target.processorTime(work);
  assert.ok(spent <= most, `${what} took ${spent} ms`);
  return `${what} ${spent}`;
}

attack("OWN-1 JSON nested without end", { growth: 24 * MIB }, async (target) => {
  const nested = (open, close, depth = LONG / 2) => `${open.repeat(depth)}${close.repeat(depth)}`;
  const values = [nested("[", "]"), nested('{"a":', "}", LONG / 6).replace(":}", ":1}"), "[".repeat(LONG), "{".repeat(LONG)];
  const notes = [];
  for (const [at, value] of values.entries()) {
    notes.push(await cheap(target, `${at} JSON mode`, 300, () => violates(target, text(`["message",${value}]`))));
    for (const packet of [`42["message",${value}]`, `421["message-with-ack",${value}]`, `40/custom,{"a":${value}}`, `451-["x",${value}]`]) {
      const client = await target.socket();
      client.send(text(packet), binary(), text('429["message-with-ack",1]'));
      await client.until(() => client.ended || client.frames.length > 0, "neither answered nor closed", 2000);
      client.destroy();
    }
  }
  // Where a header may grow there may be anything, if it is JSON.
  const client = await json(target);
  client.send(text(`[{"later":${nested("[", "]")}}]`), text('["message",1]'));
  assert.equal(await client.text(), '["message",1]');
  return `${notes.join(", ")} ms`;
});

attack("OWN-2 numbers without end in JSON mode", { growth: 24 * MIB }, async (target) => {
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

attack("OWN-3 headers of very many keys in JSON mode", { growth: 24 * MIB }, async (target) => {
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
  for (const header of ['"__proto__":{"ack":1}', '"ack":1,"re":1', '"ack":-1', '"binary":0', '"binary":11', '"re":1.5']) {
    await violates(target, text(`[{${header}},"connect"]`));
  }
});

attack("OWN-4 one attachment, named over and over", { growth: 32 * MIB, flags: OUTBOX }, async (target) => {
  const placeholder = '{"_placeholder":true,"num":0}';
  const many = Array(30_000).fill(placeholder).join(",");
  const one = binary(Buffer.alloc(LONG));
  // 30,000 times 900 kB would be 27 GB.
  assert.match(await violates(target, text(`[{"binary":1},"message",${many}]`), one), /placeholder/);
  for (const [name, ack] of [["message", ""], ["message-with-ack", "1"]]) {
    const client = await target.socket();
    client.send(text(`451-${ack}["${name}",${many}]`), one);
    await client.untilClosed(3000);
    client.destroy();
  }
});

attack("OWN-5 binary that was announced and never comes", { growth: 48 * MIB, flags: { "attachment-timeout": 400 } }, async (target) => {
  const header = text('[{"binary":10},"message",{"_placeholder":true,"num":0}]');
  assert.match(await violates(target, header), /did not come in time/);
  assert.match(await violates(target, header, text('["message",1]')), /binary was announced/);
  // Each of these may keep what came until its time is over, up to the limit of an event.
  const clients = await Promise.all(Array.from({ length: 20 }, () => json(target)));
  for (const client of clients) client.send(header, binary(Buffer.alloc(LONG)));
  for (const client of clients) await client.untilClosed(2000);
  const large = await json(target);
  large.send(text(`[{"binary":10},"message",${JSON.stringify("x".repeat(LONG))}]`));
  for (let sent = 0; sent < 9; sent += 1) large.send(binary(Buffer.alloc(1_000_000)));
  large.send(binary(Buffer.alloc(1_000_000)));
  await large.untilClosed(2000);
});

attack("OWN-6 floods of what is legal, in plain mode", { growth: 24 * MIB, flags: OUTBOX }, async (target) => {
  const floods = [frame(""), frame("x"), binary(Buffer.alloc(0)), frame("", { opcode: OPCODES.pong }), frame("", { opcode: OPCODES.ping })];
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

attack("OWN-7 very many upgrades of one session at once", { growth: 16 * MIB }, async (target) => {
  for (const path of ["/engine.io/", "/socket.io/"]) {
    const sid = await target.session(path);
    const connections = await Promise.all(Array.from({ length: 200 }, () => target.connect()));
    const handshake = upgradeRequest(`${path}?${WEBSOCKET}&sid=${sid}`);
    for (const [at, connection] of connections.entries()) {
      const early = at % 3 ? [text("2probe")] : [text("2probe"), text("5")];
      connection.write(Buffer.concat([Buffer.from(handshake), ...early]));
    }
    await Promise.all(connections.map((connection) => connection.until(() => connection.ended || connection.size > 0, "no answer", 3000)));
    const opened = connections.filter(({ answer }) => answer.startsWith("HTTP/1.1 101"));
    assert.ok(opened.length >= 1, "none was let in");
    // One at a time may try: all others are refused, or closed again.
    const alive = () => opened.filter(({ ended }) => !ended).length;
    await target.eventually(() => alive() <= 1, () => `${alive()} WebSockets share a session`, 1000);
  }
});

attack("OWN-8 clients that come and go", { growth: 24 * MIB, settle: 3000 }, async (target) => {
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
      await connection.write(httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, [["Host", "a"], ["Content-Length", 100]], "4ab"));
      connection.reset();
    } else if (kind === 5) {
      const sid = await target.session();
      const probe = await target.webSocket(`/engine.io/?${WEBSOCKET}&sid=${sid}`);
      probe.send(text("2probe"));
      probe.reset();
      const gone = await target.connect();
      gone.write(httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, [["Host", "a"], ["Content-Length", 1]], "1"));
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
  for (let round = 0; round < 1600; round += 40) await Promise.all(Array.from({ length: 40 }, (_, at) => churn(round + at)));
  return "1600 of them";
});

attack("OWN-9 headers that come very slowly", { growth: 16 * MIB, app: "demo", flags: { "header-timeout": "600ms" } }, async (target) => {
  const request = upgradeRequest("/ws", [["X", "y".repeat(2000)]]);
  const connections = await Promise.all(Array.from({ length: 300 }, () => target.connect()));
  const began = performance.now();
  for (let at = 0; at < 16; at += 1) {
    for (const [number, connection] of connections.entries()) {
      // A third of them say nothing at all.
      if (number % 3) connection.write(request[at]);
    }
    await pause(100);
  }
  const open = () => connections.filter(({ ended }) => !ended).length;
  await target.eventually(() => open() === 0, () => `${open()} connections are still open`, 1000);
  return `300 of them, gone after ${(performance.now() - began).toFixed()} ms`;
});

attack("OWN-10 bodies that come very slowly", { growth: 16 * MIB, flags: { "ping-interval": 500, "ping-timeout": 300 } }, async (target) => {
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
  await target.eventually(() => open() === 0, () => `${open()} connections are still open`, 1500);
  // Where no session is, nothing is waited for.
  for (const path of [`/engine.io/?${POLLING}&sid=nobody`, `/engine.io/?${POLLING}`, "/echo", "/nothing"]) {
    const connection = await target.connect();
    connection.write(httpRequest("POST", path, [["Host", "a"], ["Content-Length", 100_000]], "4"));
    await connection.refused();
    await connection.untilEnded();
  }
});

attack("OWN-11 bodies where none belong", { growth: 8 * MIB }, async (target) => {
  const part = "x".repeat(65_536);
  for (const body of [["Content-Length", 100 * MIB], ["Content-Length", 1], ["Transfer-Encoding", "chunked"]]) {
    const sid = await target.session();
    const headers = [["Host", "a"], body];
    const requests = [`/engine.io/?${POLLING}`, `/engine.io/?${POLLING}&sid=${sid}`, "/nothing"]
      .map((path) => httpRequest("GET", path, headers))
      .concat(["/echo", `/engine.io/?${WEBSOCKET}&sid=${sid}`].map((path) => upgradeRequest(path, [body])));
    for (const bytes of requests) {
      const connection = await target.connect();
      connection.write(bytes);
      for (let sent = 0; sent < 100 && !connection.ended; sent += 1) await Promise.race([connection.write(part), pause(50)]);
      await connection.refused();
      await connection.untilEnded();
    }
  }
  const sid = await target.session();
  const empty = [["Host", "a"], ["Content-Length", 0]];
  await target.refuses(httpRequest("GET", `/engine.io/?${POLLING}`, empty), { statuses: [200] });
  await target.refuses(upgradeRequest(`/engine.io/?${WEBSOCKET}&sid=${sid}`, [["Content-Length", 0]]), { statuses: [101] });
});

attack("OWN-12 requests one behind the other", { growth: 16 * MIB }, async (target) => {
  const sid = await target.session();
  const post = (body) => httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, [["Host", "a"], ["Content-Length", body.length]], body);
  const poll = httpRequest("GET", `/engine.io/?${POLLING}&sid=${sid}`);
  // Answers come in the order of the requests, and none is lost or doubled.
  const connection = await target.connect();
  connection.write([post("4a"), poll, post("4b"), poll, httpRequest("GET", "/nothing"), post("4c"), poll].join(""));
  await connection.until(() => responses(connection.received).length === 7, "not all are answered", 2000);
  assert.deepEqual(
    responses(connection.received).map(({ status, body }) => [status, body]),
    [[200, "ok"], [200, "4a"], [200, "ok"], [200, "4b"], [404, ""], [200, "ok"], [200, "4c"]],
  );
  const many = await target.connect();
  many.write(httpRequest("GET", "/nothing").repeat(5000));
  await many.until(() => responses(many.received).length === 5000, "not all are answered", 5000);
  // A poll that waits holds up what is behind it on its connection, and no more.
  const waits = await target.connect();
  waits.write(poll + httpRequest("GET", "/nothing").repeat(1000));
  await pause(200);
  assert.equal(waits.size, 0);
  assert.equal((await request(`${target.url}/engine.io/?${POLLING}&sid=${sid}`, { method: "POST", body: "4d" })).status, 200);
  await waits.until(() => responses(waits.received).length === 1001, "not all are answered", 2000);
});

attack("OWN-13 answers that nobody reads", { growth: 48 * MIB, app: "demo", flags: { "keep-alive-timeout": "1s", "header-timeout": "1s" } }, async (target) => {
  const connections = await Promise.all(Array.from({ length: 20 }, () => target.connect()));
  for (const connection of connections) {
    connection.socket.pause();
    const page = httpRequest("GET", "/client.js").repeat(200);
    for (let sent = 0; sent < 50; sent += 1) {
      if ((await Promise.race([connection.write(page), pause(50).then(() => "stuck")])) === "stuck") break;
    }
  }
  const before = target.descriptors();
  await target.eventually(() => target.descriptors() <= before - 20, () => "they are still being waited for", 4000);
});

attack("OWN-14 trailers behind chunks", { growth: 4 * MIB }, async (target) => {
  const sid = await target.session();
  const head = httpRequest("POST", `/engine.io/?${POLLING}&sid=${sid}`, [["Host", "a"], ["Transfer-Encoding", "chunked"], ["Trailer", "X"]]);
  const fine = await target.connect();
  fine.write(`${head}3\r\n4ab\r\n0\r\nX: y\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n${httpRequest("GET", "/nothing")}`);
  assert.deepEqual([(await fine.response()).body, (await fine.response({ skip: 1 })).status], ["ok", 404]);
  const poll = await request(`${target.url}/engine.io/?${POLLING}&sid=${sid}`);
  assert.equal(poll.body, "4ab", "a trailer is no part of the body");
  for (const trailer of ["X: y\r\n", `X: ${"y".repeat(100_000)}\r\n`]) {
    const own = await target.session();
    const endless = await target.connect();
    await endless.write(`${head.replace(sid, own)}3\r\n4ab\r\n0\r\n`);
    for (let sent = 0; sent < 10_000 && !endless.ended; sent += 1) await endless.write(trailer);
    await endless.untilEnded();
    assert.ok(endless.socket.bytesWritten < 4 * MIB, `${endless.socket.bytesWritten} bytes were taken`);
  }
});

attack("OWN-15 clients that end their side and listen on", { growth: 4 * MIB }, async (target) => {
  for (const bytes of ["", "GET", httpRequest("GET", "/nothing"), httpRequest("GET", `/engine.io/?${POLLING}`)]) {
    const connection = await target.connect();
    await connection.write(bytes);
    connection.finish();
    await connection.untilEnded();
    assert.equal(responses(connection.received).length, bytes.includes("\r\n\r\n") ? 1 : 0);
  }
  const sid = await target.session();
  const poll = await target.connect();
  await poll.write(httpRequest("GET", `/engine.io/?${POLLING}&sid=${sid}`));
  poll.finish();
  await poll.untilEnded();
  const half = await target.connect();
  await half.write(httpRequest("POST", `/engine.io/?${POLLING}&sid=${await target.session()}`, [["Host", "a"], ["Content-Length", 9]], "4ab"));
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

attack("OWN-16 frames in the segment of the handshake", { growth: 4 * MIB }, async (target) => {
  const echo = await target.webSocket("/echo", { early: [frame("a"), frame("b"), frame("c")] });
  assert.deepEqual([await echo.text(), await echo.text(), await echo.text()], ["a", "b", "c"]);
  const engine = await target.webSocket(`/engine.io/?${WEBSOCKET}`, { early: [text("4a"), frame("4bc").subarray(0, 5)] });
  engine.send(frame("4bc").subarray(5));
  assert.match(await engine.text(), /^0\{/);
  assert.deepEqual([await engine.text(), await engine.text()], ["4a", "4bc"]);
  const socket = await target.webSocket(`/socket.io/?${WEBSOCKET}`, { early: [text("40"), text('421["message-with-ack","x"]')] });
  const heard = [];
  for (let left = 4; left > 0; left -= 1) heard.push(await socket.text());
  assert.equal(heard.at(-1), '431["x"]');
  const large = await target.webSocket("/echo", { early: [frame("x".repeat(500_000))] });
  assert.equal((await large.text(3000)).length, 500_000);
  // Over the limits there as anywhere.
  const over = await target.webSocket("/echo", { early: [frame("", { declared: 1_000_001 })] });
  assert.equal((await over.untilClosed()).code, 1009);
  const flood = await target.connect();
  flood.write(Buffer.concat([Buffer.from(upgradeRequest("/socket.io/?EIO=4&transport=websocket&sid=nobody")), Buffer.alloc(500_000, 0x81)]));
  await flood.refused();
});

attack("OWN-17 one client's requests overlap", { growth: 8 * MIB }, async (target) => {
  for (let round = 0; round < 20; round += 1) {
    const sid = await target.session(round % 2 ? "/engine.io/" : "/socket.io/");
    const url = `${round % 2 ? "/engine.io/" : "/socket.io/"}?${POLLING}&sid=${sid}`;
    const connections = await Promise.all(Array.from({ length: 40 }, () => target.connect()));
    for (const [at, connection] of connections.entries()) {
      if (at % 2) connection.write(httpRequest("GET", url));
      else connection.write(httpRequest("POST", url, [["Host", "a"], ["Content-Length", 3]], at % 4 ? "4ab" : "4"));
    }
    const open = () => connections.filter(({ ended, size }) => !ended && size === 0).length;
    // At most one poll may be left waiting, if it came when the others had been refused.
    await target.eventually(() => open() <= 1, () => `${open()} requests are not answered`, 2000);
    for (const connection of connections) connection.destroy();
  }
});

attack("OWN-18 more connections than there is room for", { growth: 16 * MIB, app: "demo", flags: { "max-connections": 60 } }, async (target) => {
  const connections = await Promise.all(Array.from({ length: 300 }, () => RawConnection.open(target.port)));
  for (const connection of connections) connection.write(upgradeRequest("/ws"));
  const open = () => connections.filter((connection) => connection.answer.startsWith("HTTP/1.1 101")).length;
  const told = () => connections.filter((connection) => connection.answer.startsWith("HTTP/1.1 503")).length;
  await target.eventually(() => open() + told() === 300, () => `${open()} open, ${told()} told why not`, 3000);
  assert.ok(open() <= 60 && open() >= 50, `${open()} are open`);
  // Room comes back as soon as somebody goes.
  connections.forEach((connection) => connection.destroy());
  await target.eventually(async () => (await target.ask("GET", "/")).status === 200, () => "nobody is let in again", 2000);
  return `${told()} were told that there is no room`;
});

attack("OWN-19 packets that belong to the other side", { growth: 4 * MIB }, async (target) => {
  const packets = ["0", '0{"sid":"x"}', "1", "2", "2probe", "3", "3probe", "5", "6", "7", "", "b", "bAAAA", "4", "\0", "\ufeff4", "4\ud83d"];
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
  // After a close frame nothing is heard.
  const closed = await target.webSocket("/echo");
  closed.send(frame("", { opcode: OPCODES.close }), frame("x"), frame("", { opcode: OPCODES.ping }));
  await closed.untilEnded();
  assert.deepEqual(closed.frames.map(({ opcode }) => opcode), [OPCODES.close]);
});
