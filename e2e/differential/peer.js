// Client of a script: packets sent and received, and their lines in the record.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { begin, request } from "../lib/http.js";
import { PATIENCE } from "../lib/patience.js";
import { SEPARATOR } from "../lib/session.js";
import { WebSocketClient } from "../lib/websocket.js";

/** Response headers that concern clients; others depend on the HTTP library */
const TOLD_HEADERS = /^(content-type|content-encoding|cache-control|set-cookie|vary|allow|etag|access-control-.*|x-.*)$/;

/** Client of a script, with the lines of its sent and received packets */
export class Peer {
  constructor(stage, name) {
    this.stage = stage;
    this.name = name;
    this.lines = [];
    this.waiting = [];
    this.acks = new Map();
    this.syncs = 0;
  }

  line(text) {
    this.lines.push(text);
  }

  answer({ status, headers = {}, body = "", bytes }) {
    const told = Object.entries(headers).filter(([header]) => TOLD_HEADERS.test(header)).sort();
    const named = told.map(([header, value]) => `${header}: ${Array.isArray(value) ? value.join(" & ") : value}`);
    this.line(`  ${status} ${named.join("; ")}`);
    const encoded = headers["content-encoding"] && bytes;
    for (const packet of encoded ? ["(compressed)"] : body.split(SEPARATOR)) {
      this.line(`  ${this.shown(packet)}`);
    }
  }

  async openPolling() {
    const answer = await request(`${this.base}&transport=polling`, { headers: this.headers });
    const opened = answer.body.split(SEPARATOR);
    this.began(opened.shift());
    this.waiting.push(...opened);
  }

  async openWebSocket() {
    this.socket = await WebSocketClient.open(`${this.base}&transport=websocket`, { headers: this.headers });
    this.began(await this.socket.next());
  }

  async upgrade() {
    this.socket = await WebSocketClient.open(this.address("websocket"), { headers: this.headers });
    this.socket.send("2probe");
    this.line(`upgrade: ${await this.socket.next()}`);
    const parked = await this.poll();
    this.line(`upgrade: ${parked.body}`);
    this.socket.send("5");
    this.polling = false;
  }

  began(packet) {
    this.learn(packet, "sid");
    this.sid = JSON.parse(packet.slice(1)).sid;
    this.polling = !this.socket;
  }

  /** URL of the session's requests */
  address(transport = "polling") {
    return `${this.base}&transport=${transport}&sid=${this.sid}`;
  }

  poll(options) {
    return request(this.address(), { headers: this.headers, ...options });
  }

  /** A GET that can be aborted, or awaited later */
  park() {
    const exchange = begin(this.address(), { headers: this.headers });
    exchange.end();
    return exchange;
  }

  /** A POST, with its complete response */
  async push(body, options) {
    this.line(`POST ${typeof body === "string" ? JSON.stringify(body.slice(0, 60)) : `${body.length} bytes`}`);
    const answer = await request(this.address(), { method: "POST", headers: this.headers, body, ...options }).catch(
      (error) => ({ status: error.code ?? "no answer" }),
    );
    this.answer(answer);
  }

  /** A GET, with its complete response */
  async fetch(options) {
    this.line("GET");
    this.answer(await this.poll(options).catch((error) => ({ status: error.code ?? "no answer" })));
  }

  /** Sends packets, in one payload over polling. A Buffer is an attachment */
  send(...packets) {
    for (const packet of packets) this.line(`> ${this.shown(packet)}`);
    return this.put(...packets);
  }

  async put(...packets) {
    if (!this.polling) {
      if (!this.socket) return;
      this.socket.send(...packets);
      return;
    }
    const texts = packets.map((packet) => (typeof packet === "string" ? packet : `b${packet.toString("base64")}`));
    const answer = await request(this.address(), {
      method: "POST",
      headers: this.headers,
      body: texts.join(SEPARATOR),
    }).catch((error) => ({ status: error.message, body: "" }));
    if (answer.status !== 200 || answer.body !== "ok") this.answer(answer);
  }

  /** Joins a namespace and receives the response */
  async connect(namespace = "/", auth) {
    this.namespace = namespace === "/" ? "" : `${namespace},`;
    this.full = namespace;
    await this.send(`40${this.namespace}${auth === undefined ? "" : JSON.stringify(auth)}`);
    const packet = await this.hear();
    this.id = /"sid":"([^"]+)"/.exec(packet)?.[1] ?? this.id;
    this.pid = /"pid":"([^"]+)"/.exec(packet)?.[1] ?? this.pid;
    return packet;
  }

  /** Sends an event to the namespace joined last */
  emit(...args) {
    return this.send(`42${this.namespace}${JSON.stringify(args)}`);
  }

  /** Sends a command to the application and receives packets until it is done. Resolves to the result */
  async ask(command, ...args) {
    const id = 7000 + (this.syncs += 1);
    await this.send(`42${this.namespace}${id}${JSON.stringify(["do", command, ...args])}`);
    return this.until(`43${this.namespace}${id}[`);
  }

  /** Receives everything sent before now */
  async sync() {
    const id = 7000 + (this.syncs += 1);
    await this.put(`42${this.namespace}${id}["sync"]`);
    for (;;) {
      const heard = await this.take();
      if (heard === `43${this.namespace}${id}[]`) return;
      this.lineOf(heard);
      if (heard === null || heard.closed) return;
    }
  }

  /** Receives the next packets. Resolves to the last */
  async hear(count = 1, within = PATIENCE) {
    let packet;
    for (let heard = 0; heard < count; heard += 1) {
      packet = await this.take(within);
      this.lineOf(packet);
      if (packet === null || packet.closed) break;
    }
    return packet;
  }

  /** Receives packets up to one with this prefix */
  async until(prefix) {
    for (;;) {
      const packet = await this.take();
      this.lineOf(packet);
      if (packet === null || packet.closed) return undefined;
      if (typeof packet === "string" && packet.startsWith(prefix)) return packet;
    }
  }

  /** Receives everything up to the end of the connection */
  async closed(within = PATIENCE) {
    const deadline = Date.now() + within;
    for (;;) {
      const packet = await this.take(Math.max(deadline - Date.now(), 1));
      this.lineOf(packet);
      if (packet === null || packet.closed) return;
    }
  }

  /** Receives everything that arrives within this time */
  async quiet(milliseconds) {
    const deadline = Date.now() + milliseconds;
    for (;;) {
      const packet = await this.take(Math.max(deadline - Date.now(), 1));
      if (packet === null) return;
      this.lineOf(packet);
      if (packet.closed) return;
    }
  }

  /** Ack id of the server's last event with an ack */
  async asked(within) {
    const packet = await this.hear(1, within);
    return this.numberOf(packet);
  }

  numberOf(packet) {
    return typeof packet === "string" ? question(packet)?.id : undefined;
  }

  /** Answers a server event with an ack */
  reply(id, ...args) {
    const json = JSON.stringify(args);
    this.line(`> 43${this.namespace}${this.stage.number(id)}${json}`);
    return this.put(`43${this.namespace}${id}${json}`);
  }

  /** Cuts the connection: the WebSocket or the pending GET */
  async cut() {
    this.line("(cuts the connection)");
    if (!this.polling) {
      this.socket?.terminate();
      return;
    }
    const parked = this.park();
    await this.stage.settled();
    parked.abort();
  }

  leave() {
    this.socket?.terminate();
    if (this.polling) request(this.address(), { method: "POST", body: "1" }).catch(() => {});
  }

  /** Next packet, `{ closed }` at the end of the connection, null if none arrives */
  async take(within = PATIENCE) {
    const deadline = Date.now() + within;
    while (this.polling && this.waiting.length === 0) {
      const left = deadline - Date.now();
      if (left <= 0) return null;
      const answer = await this.pollFor(left);
      if (answer === null) return null;
      if (answer.status !== 200) return { closed: `${answer.status} ${answer.body}` };
      this.waiting.push(...answer.body.split(SEPARATOR).filter((packet) => packet !== "6"));
    }
    if (!this.polling) return this.takeFrame(within);
    const packet = this.waiting.shift();
    if (packet === "1") {
      // The next GET would only report an unknown session.
      return { closed: '400 {"code":1,"message":"Session ID unknown"}' };
    }
    return packet[0] === "b" ? Buffer.from(packet.slice(1), "base64") : packet;
  }

  /** Response to a GET. If it is late, the request stays pending for the next caller */
  async pollFor(within) {
    this.parked ??= this.poll({ within: 60_000 }).catch((error) => ({ status: error.code, body: "" }));
    const late = sleep(within, null, { ref: false });
    const answer = await Promise.race([this.parked, late]);
    if (answer) this.parked = undefined;
    return answer;
  }

  async takeFrame(within) {
    if (!this.socket) return { closed: "never open" };
    try {
      return await this.socket.next({ within });
    } catch {
      // Abort the request, or the next message would be lost.
      this.socket.wanted.length = 0;
      const { ended } = this.socket;
      return ended ? { closed: `${ended.code} ${ended.reason}`.trim() } : null;
    }
  }

  lineOf(packet) {
    if (packet === null) this.line("(nothing comes)");
    else if (packet.closed) this.line(`(closed: ${packet.closed})`);
    else this.line(`< ${this.heard(packet)}`);
  }

  /** A server packet, with ack ids numbered per script, since the server counts across scripts */
  heard(packet) {
    if (this.stage.house.recovers) this.learnOffset(packet);
    const asked = typeof packet === "string" && question(packet);
    if (!asked) return this.shown(packet);
    return brief(`${asked.before}${this.stage.number(asked.id)}${layout(asked.json)}`);
  }

  /** Replaces generated ids by names that are the same on every server */
  learn(packet, what) {
    if (typeof packet !== "string") return;
    for (const [, kind, id] of packet.matchAll(/"(sid|pid)":"([A-Za-z0-9_-]{10,})"/g)) {
      if (this.stage.ids.some(([known]) => known === id)) continue;
      const label = `<${kind === "pid" ? "pid" : what} of ${this.name}`;
      const before = this.stage.ids.filter(([, known]) => known.startsWith(label)).length;
      this.stage.ids.push([id, `${label}${before ? ` ${before + 1}` : ""}>`]);
    }
  }

  /** With recovery, the last argument of an event is its offset */
  learnOffset(packet) {
    const offset = typeof packet === "string" && /^42[^[]*\[.*,"([^"]+)"\]$/s.exec(packet)?.[1];
    if (!offset) return;
    this.offset = offset;
    if (!this.stage.ids.some(([known]) => known === offset)) this.stage.ids.push([offset, "<offset>"]);
  }

  /** A packet as recorded, with normalized JSON */
  shown(packet) {
    if (typeof packet !== "string") return `bytes ${brief(packet.toString("hex"))}`;
    if (packet.startsWith("0")) this.learn(packet, "sid");
    if (packet.startsWith("40")) {
      const other = this.full && this.full !== "/" ? ` in ${this.full}` : "";
      this.learn(packet, `socket id${other}`);
    }
    const [head] = /^\d*-?(?:\/[^,[{"]*,?)?\d*/.exec(packet);
    return brief(`${head}${layout(packet.slice(head.length))}`);
  }
}

/** Event with an ack: text before its id, the id, and text after it */
function question(packet) {
  const [, before, id, json] = /^(4(?:2|5\d+-)(?:\/[^,[]*,)?)(\d+)(\[.*)$/s.exec(packet) ?? [];
  return id === undefined ? undefined : { before, id, json };
}

function layout(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

function brief(text) {
  if (text.length <= 400) return text;
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 12);
  return `${text.slice(0, 100)}… (${text.length} characters, ${digest})`;
}
