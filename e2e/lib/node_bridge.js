// A node of Roomcast as its state machine alone: the program `node_bridge` decodes and encodes, and this file subscribes,
// publishes and has the sockets.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Redis } from "ioredis";
import { binary } from "./server.js";

/** Replaces placeholders by the attachments, which are hexadecimal */
export function argsOf({ args, attachments = [] }) {
  const inline = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map(inline);
    if (attachments.length > 0 && value._placeholder === true) return Buffer.from(attachments[value.num], "hex");
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, inline(inner)]));
  };
  return inline(JSON.parse(`[${args}]`));
}

/** The program; commands are answered in order */
export class Bridge {
  constructor() {
    this.child = spawn(binary("node_bridge"), [], { stdio: ["pipe", "pipe", "inherit"] });
    this.pending = [];
    this.lines = [];
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      if (line !== "{}") return this.lines.push(JSON.parse(line));
      this.pending.shift().resolve(this.lines);
      this.lines = [];
    });
    this.exited = new Promise((resolve) => this.child.once("exit", resolve));
    this.exited.then((code) => {
      for (const { reject } of this.pending) reject(new Error(`node_bridge exited with ${code}`));
    });
  }

  /** Resolves to the actions of a command */
  run(command) {
    return new Promise((resolve, reject) => {
      this.pending.push({ resolve, reject });
      this.child.stdin.write(`${JSON.stringify(command)}\n`);
    });
  }

  async stop() {
    this.child.stdin.end();
    await this.exited;
  }
}

/** A node with sockets of the form `{ id, rooms, data, answer }`; `log` has the operations that reached it */
export class BridgeNode {
  constructor(port, sockets) {
    this.bridge = new Bridge();
    this.publisher = new Redis(port);
    this.subscriber = new Redis(port);
    this.port = port;
    this.sockets = sockets;
    this.log = [];
    this.requests = new Map();
    this.lastRequest = 0;
  }

  /** Opens a namespace with an adapter; `sharded` selects sharded pub/sub */
  async open(name, { adapter = "classic", sharded = adapter === "sharded", ...options } = {}) {
    const [channels, ...actions] = await this.bridge.run({ op: "open", name, adapter, ...options });
    this.channels = channels;
    this.sharded = sharded;
    const receive = (channel, payload) => {
      const members = this.sockets.flatMap(({ rooms }) => rooms);
      const command = { op: "message", channel: channel.toString(), payload: payload.toString("hex"), members };
      this.send(command).catch((error) => (this.failure ??= error));
    };
    this.subscriber.on("messageBuffer", receive);
    this.subscriber.on("smessageBuffer", receive);
    this.subscriber.on("pmessageBuffer", (_, channel, payload) => receive(channel, payload));
    if (adapter === "classic") {
      const { pattern, request, response, own } = channels;
      await this.subscriber.psubscribe(pattern);
      await this.subscriber.subscribe(request, response, own);
    }
    for (const action of actions) await this.perform(action);
    if (adapter === "streams") await this.read("socket.io");
    for (const room of new Set(this.sockets.flatMap(({ rooms }) => rooms))) await this.send({ op: "room", name: room, exists: true });
  }

  /** Reads the stream until the node stops; `gaps` counts the reports of lost entries */
  async read(stream) {
    this.reader = new Redis(this.port);
    this.gaps = 0;
    const next = async () => {
      const [request] = await this.bridge.run({ op: "read" });
      if (request.do === "locate") {
        const [last] = await this.reader.xrevrange(stream, "+", "-", "COUNT", 1);
        return this.send({ op: "last", last: last?.[0] });
      }
      const { anchor, after } = request;
      const pipeline = this.reader.pipeline();
      if (anchor) pipeline.xrange(stream, anchor, anchor);
      pipeline.xread("COUNT", 100, "BLOCK", 1000, "STREAMS", stream, after);
      const results = (await pipeline.exec()).map(([error, result]) => {
        if (error) throw error;
        return result;
      });
      const entries = results.at(-1)?.[0][1] ?? [];
      return this.send({ op: "entries", anchor: anchor && results[0].length > 0, last: entries.at(-1)?.[0], entries });
    };
    await next();
    const run = async () => {
      while (!this.isStopped) {
        await this.paused;
        await next();
      }
    };
    run().catch((error) => this.isStopped || (this.failure ??= error));
  }

  /** Pauses the reader of the stream after its next answer; returns a function that ends the pause */
  pause() {
    let resume;
    this.paused = new Promise((resolve) => (resume = resolve));
    return resume;
  }

  /** Recovers a session; resolves to it with the missed events, or to the reason of a refusal */
  async restore(stream, secret, offset) {
    let [step] = await this.bridge.run({ op: "restore", secret, offset });
    for (;;) {
      switch (step.do) {
        case "take": {
          const [[, stored]] = await this.publisher.multi().get(step.key).del(step.key).exec();
          const found = (await this.publisher.xrange(stream, step.offset, step.offset)).length > 0;
          [step] = await this.bridge.run({ op: "session", stored, found });
          break;
        }
        case "range": {
          const entries = await this.publisher.xrange(stream, step.from, "+", "COUNT", step.count);
          const end = entries.length < step.count;
          [step] = await this.bridge.run({ op: "missed", entries, last: entries.at(-1)?.[0], end });
          break;
        }
        default:
          return step;
      }
    }
  }

  /** Resolves when all own entries came back from the stream */
  async settled() {
    if (!this.reader) return;
    for (;;) {
      const [{ entries }] = await this.bridge.run({ op: "unconfirmed" });
      if (entries === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** Resolves to the number of nodes in the namespace */
  async nodes() {
    const [, count] = await this.publisher.pubsub(this.sharded ? "SHARDNUMSUB" : "NUMSUB", this.channels.counted);
    return Number(count);
  }

  /** Runs a command and performs its actions */
  async send(command) {
    for (const action of await this.bridge.run(command)) await this.perform(action);
  }

  /** Runs a request; resolves to its answers and the number of nodes that did not answer */
  request(command) {
    const request = ++this.lastRequest;
    return new Promise((resolve, reject) => {
      this.requests.set(request, { answers: [], resolve });
      this.send({ ...command, request }).catch(reject);
    });
  }

  matching({ rooms, except }) {
    const isIn = (socket, names) => names.some((name) => socket.rooms.includes(name));
    return this.sockets.filter((socket) => (rooms.length === 0 || isIn(socket, rooms)) && !isIn(socket, except));
  }

  async perform(action) {
    const answer = (command) => this.send({ op: "answer", asker: action.asker, ...command });
    switch (action.do) {
      case "publish":
        await this.publisher[this.sharded ? "spublish" : "publish"](action.channel, Buffer.from(action.payload, "hex"));
        break;
      case "append": {
        const { stream, max_len, fields } = action;
        await this.publisher.xadd(stream, "MAXLEN", "~", max_len, "*", ...fields.flat());
        break;
      }
      case "subscribe":
        await this.subscriber[this.sharded ? "ssubscribe" : "subscribe"](action.channel);
        break;
      case "unsubscribe":
        await this.subscriber[this.sharded ? "sunsubscribe" : "unsubscribe"](action.channel);
        break;
      case "count":
        await this.send({ op: "nodes", request: action.request, count: await this.nodes() });
        break;
      case "find": {
        const sockets = this.matching(action);
        const kind = { Ids: "ids", Sockets: "sockets", Rooms: "rooms" }[action.wanted];
        await answer({ kind, sockets, rooms: this.sockets.flatMap(({ rooms }) => rooms) });
        break;
      }
      case "server":
        this.log.push(action);
        if (action.asker) await answer({ kind: "server", ...(this.serverAnswer ?? { args: '"from roomcast"' }) });
        break;
      case "collect": {
        this.log.push(action);
        const sockets = this.matching(action);
        await answer({ kind: "recipients", count: sockets.length });
        for (const socket of sockets) await answer({ kind: "ack", ...socket.answer });
        break;
      }
      case "gap":
        this.gaps++;
        break;
      case "answer":
        this.requests.get(action.request).answers.push(action.answer);
        break;
      case "done": {
        const { answers, resolve } = this.requests.get(action.request);
        resolve({ answers, missing: action.missing });
        break;
      }
      default:
        this.log.push(action);
    }
  }

  async stop() {
    this.isStopped = true;
    this.reader?.disconnect();
    this.subscriber.disconnect();
    this.publisher.disconnect();
    await this.bridge.stop();
    if (this.failure) throw this.failure;
  }
}
