// Invariants of every attack: the server survives, other clients are unaffected, and state returns to normal.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Bystanders } from "./bystanders.js";
import { dropIdle } from "./http.js";
import { descriptors, forgetPeak, memory, peakMemory, processorTime, starvation } from "./process.js";
import { closeAll, frame, httpRequest, judge, RawConnection, RawWebSocket } from "./raw.js";
import { CALM, startConformance, startDemo } from "./server.js";

export const MIB = 1024 * 1024;

/**
 * A test that attacks a dedicated server and fails unless [withstand] holds. It prints a line with the costs.
 *
 * The attack's return value is part of that line.
 */
export function attack(name, options, body) {
  test(name, async () => {
    const row = { name, outcome: "FAILED", limit: options.growth, ms: 0, growth: 0, worst: 0, note: "" };
    table.push(row);
    try {
      await withstand(options, body, row);
      row.outcome = "ok";
    } finally {
      console.log(line(row));
    }
  });
}

/**
 * Fails unless a server withstands `body`.
 *
 * `growth` is the maximum memory growth in bytes, at any moment. `worst` is the maximum latency of a bystander in
 * milliseconds. `settle` is the time in milliseconds for the server to release everything
 * afterwards. Time withheld by other programs does not count in either. `flags` are those
 * of the conformance server; `app: "demo"` means `roomcast serve` instead.
 */
export async function withstand(options, body, row = {}) {
  const { growth, flags, app = "conformance", worst = 1000, settle = 1000 } = options;
  const server = app === "demo" ? await startDemo(0, flags) : await startConformance({ ...CALM, ...flags });
  const target = new Target(server);
  judge(target.pid);
  let bystanders;
  try {
    bystanders = await Bystanders.open(server, app);
    await target.untilIdle(5000);
    const before = target.measure();
    forgetPeak(target.pid);
    await bystanders.watch();

    const began = performance.now();
    row.note = (await body(target)) ?? "";
    row.ms = performance.now() - began;

    const seen = await bystanders.rest();
    row.worst = seen.worst;
    await closeAll();
    dropIdle();
    target.isAlive();
    assert.equal(seen.failure, undefined, "a bystander was affected");
    assert.ok(seen.rounds >= 4, `only ${seen.rounds} requests of the bystanders were answered`);
    assert.ok(seen.worst <= worst, `a bystander waited ${seen.worst.toFixed()} ms; limit ${worst}`);

    const left = () => target.descriptors() - before.descriptors;
    await target.eventually(
      () => left() <= 0,
      () => `${left()} descriptors were not given back`,
      settle,
    );
    await target.untilIdle(settle);
    row.growth = Math.max(peakMemory(target.pid) - before.memory, 0);
    const grown = `the server took ${mib(row.growth)} MiB more; up to ${mib(growth)} are allowed`;
    assert.ok(row.growth <= growth, grown);
  } finally {
    await bystanders?.close();
    await closeAll();
    dropIdle();
    await server.stop();
  }
}

/** The server under attack, and helpers to reach it */
class Target {
  constructor(server) {
    this.server = server;
    server.exited.then((outcome) => (this.exited = outcome));
  }

  get pid() {
    return this.server.child.pid;
  }

  get port() {
    return this.server.port;
  }

  get url() {
    return this.server.url;
  }

  /** Fails if the process has exited */
  isAlive() {
    assert.equal(this.exited, undefined, `the server exited with ${this.exited}: ${this.server.output.slice(-1000)}`);
  }

  /** A connection without any sent bytes */
  connect() {
    return RawConnection.open(this.port);
  }

  /** Sends data on a separate connection and expects a rejection. Resolves to the response */
  async refuses(bytes, expected) {
    const connection = await this.connect();
    connection.write(bytes);
    const answer = await connection.refused(expected);
    connection.destroy();
    return answer;
  }

  /** Response to one request on a separate connection */
  async ask(method, path, headers = [], body = "") {
    const connection = await this.connect();
    connection.write(httpRequest(method, path, [["Host", "localhost"], ["Connection", "close"], ...headers], body));
    const answer = await connection.response();
    connection.destroy();
    return answer;
  }

  /** A raw WebSocket, with `early` frames right after the handshake */
  webSocket(path, options) {
    return RawWebSocket.open(this, path, options);
  }

  /** A raw Engine.IO session on `/engine.io/`, which echoes messages */
  async engine(options) {
    const client = await this.webSocket("/engine.io/?EIO=4&transport=websocket", options);
    client.opened = JSON.parse((await client.text()).slice(1));
    return client;
  }

  /** A raw Socket.IO session in the main namespace */
  async socket(options) {
    const client = await this.webSocket("/socket.io/?EIO=4&transport=websocket", options);
    client.opened = JSON.parse((await client.text()).slice(1));
    client.send(frame("40"));
    client.joined = JSON.parse((await client.text()).slice(2));
    await client.text();
    return client;
  }

  /** Polling session without polls; resolves to its sid */
  async session(path = "/engine.io/") {
    const answer = await this.ask("GET", `${path}?EIO=4&transport=polling`);
    assert.equal(answer.status, 200);
    return JSON.parse(answer.body.slice(1)).sid;
  }

  /** CPU time of the server during `work`, in milliseconds */
  async processorTime(work) {
    const before = processorTime(this.pid);
    await work();
    return processorTime(this.pid) - before;
  }

  /** Current memory in bytes */
  memory() {
    return memory(this.pid);
  }

  descriptors() {
    return descriptors(this.pid);
  }

  measure() {
    return { memory: this.memory(), descriptors: this.descriptors() };
  }

  /** Waits until the server is idle */
  untilIdle(within) {
    let used, wanted;
    const isIdle = async () => {
      const before = starvation(this.pid);
      used = await this.processorTime(() => pause(IDLE_FOR));
      wanted = starvation(this.pid) - before;
      return used <= IDLE_LIMIT && wanted <= WANTED_LIMIT;
    };
    const busy = () => `the server is still busy: ${used} of ${IDLE_FOR} ms, and ${wanted.toFixed()} more runnable`;
    return this.eventually(isIdle, busy, within);
  }

  /** Waits until the condition holds; checks at least twice */
  async eventually(condition, missing, within) {
    const starved = starvation(this.pid);
    const deadline = performance.now() + within;
    for (let look = 0; ; look += 1) {
      this.isAlive();
      if (await condition()) return;
      const late = performance.now() - deadline - (starvation(this.pid) - starved);
      if (look > 0 && late > 0) throw new Error(`${missing()} within ${within} ms`);
      await pause(10);
    }
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Window for idleness in milliseconds, and how many of them the server may be busy or runnable */
const IDLE_FOR = 300;
const IDLE_LIMIT = 30;
const WANTED_LIMIT = 150;

const table = [];
const mib = (bytes) => (bytes / MIB).toFixed(1);

function line({ name, ms, growth, limit, worst, outcome, note }) {
  const memory = `+${mib(growth)} MiB (up to ${mib(limit)})`;
  const time = `${ms.toFixed()} ms`;
  return `| ${outcome} | ${time} | ${memory} | others ${worst.toFixed()} ms | ${name}${note && `: ${note}`} |`;
}

after(() => {
  if (table.length === 0) return;
  const failed = table.filter(({ outcome }) => outcome !== "ok").length;
  console.log(`| ${table.length} attacks, ${failed} failed |`);
});
