// Two well-behaved clients, one per transport, on a separate thread: the attack must not affect them,
// and the load of the test must not count as latency of the server.
import { Agent } from "node:http";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { request } from "./http.js";
import { withheld } from "./process.js";
import { SEPARATOR } from "./session.js";
import { WebSocketClient } from "./websocket.js";

/** Clients during an attack. `watch` and `rest` return their observations */
export class Bystanders {
  /** Connects both to a server's Socket.IO endpoint; `app` is the application there */
  static async open(server, app) {
    const workerData = { url: server.url, pid: server.child.pid, app };
    const worker = new Worker(new URL(import.meta.url), { workerData });
    const bystanders = new Bystanders(worker);
    await bystanders.#reply("open");
    return bystanders;
  }

  constructor(worker) {
    this.worker = worker;
  }

  /** Starts continuous requests */
  async watch() {
    await this.#reply("watch");
  }

  /** Stops after one more request by each. Resolves to `{ rounds, worst, failure }`, times in milliseconds */
  async rest() {
    return this.#reply("rest");
  }

  /** Closes both */
  async close() {
    await this.#reply("close").catch(() => {});
    await this.worker.terminate();
  }

  async #reply(order) {
    return new Promise((resolve, reject) => {
      const settle = (error, answer) => {
        this.worker.off("message", answered).off("error", settle);
        if (error) reject(error);
        else resolve(answer);
      };
      const answered = (answer) => settle(undefined, answer);
      this.worker.on("message", answered).on("error", settle);
      this.worker.postMessage(order);
    });
  }
}

/** A request and its expected response per application; `join` prepares a client */
const APPS = {
  conformance: {
    join: 2,
    ask: (id) => [`42${id}["message-with-ack",${id},"still there"]`, `43${id}[${id},"still there"]`],
  },
  demo: {
    join: 2,
    ask: (id) => [`42${id}["room","nobody is here","still there"]`, `43${id}[{"dropped":0,"queued":0}]`],
  },
};

/** Time between two requests of a client, in milliseconds */
const PAUSE = 10;

/** Upper bound of any wait, in milliseconds */
const GIVEN_UP = 10_000;

/** A client that passes every packet to `receive`, which answers heartbeats */
class Client {
  #awaited = new Map();
  #greetings = 0;
  #asked = 0;
  failure;

  constructor(app) {
    this.app = app;
  }

  /** Joins the main namespace */
  async join() {
    this.send("40");
    await this.#arrival("joined");
  }

  /** Sends a request; resolves to its latency, without the time withheld from it or the server */
  async ask() {
    const [question, answer] = this.app.ask((this.#asked += 1));
    const before = withheld(workerData.pid);
    const began = performance.now();
    const arrival = this.#arrival(answer);
    this.send(question);
    await arrival;
    return Math.max(performance.now() - began - (withheld(workerData.pid) - before), 0);
  }

  receive(packet) {
    if (packet === "2") return this.send("3");
    if (packet.startsWith("40") || packet.startsWith("42")) {
      this.#greetings += 1;
      if (this.#greetings === this.app.join) this.#awaited.get("joined")?.();
      return;
    }
    this.#awaited.get(packet)?.();
  }

  fail(why) {
    this.failure ??= why;
    for (const give of this.#awaited.values()) give(new Error(why));
  }

  #arrival(packet) {
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(new Error(this.failure));
      const late = setTimeout(() => this.fail(`no response within ${GIVEN_UP} ms`), GIVEN_UP);
      this.#awaited.set(packet, (error) => {
        clearTimeout(late);
        this.#awaited.delete(packet);
        if (error) reject(error);
        else resolve();
      });
    });
  }
}

class OverWebSocket extends Client {
  name = "websocket";

  async open(url) {
    this.client = await WebSocketClient.open(`${url}/socket.io/?EIO=4&transport=websocket`);
    this.client.socket.on("message", (data) => this.receive(data.toString()));
    this.client.closed.then(({ code }) => this.fail(`its WebSocket was closed with ${code}`));
    await this.join();
  }

  send(packet) {
    this.client.send(packet);
  }

  close() {
    this.client.terminate();
  }
}

class ByPolling extends Client {
  name = "polling";
  // A separate agent, so that no other request shares its connections.
  #agent = new Agent({ keepAlive: true, maxSockets: 2 });
  #posts = Promise.resolve();

  async open(url) {
    const path = `${url}/socket.io/?EIO=4&transport=polling`;
    const opened = await request(path, { agent: this.#agent });
    this.url = `${path}&sid=${JSON.parse(opened.body.slice(1)).sid}`;
    this.#poll();
    await this.join();
  }

  send(packet) {
    this.#posts = this.#posts
      .then(async () => {
        const answer = await request(this.url, { method: "POST", body: packet, agent: this.#agent, within: 60_000 });
        if (answer.status !== 200) this.fail(`its POST got ${answer.status} ${answer.body}`);
      })
      .catch((error) => this.fail(`its POST failed: ${error.message}`));
  }

  async #poll() {
    try {
      while (!this.failure) {
        const answer = await request(this.url, { agent: this.#agent, within: 60_000 });
        if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body}`);
        answer.body.split(SEPARATOR).forEach((packet) => this.receive(packet));
      }
    } catch (error) {
      this.fail(`its poll failed: ${error.message}`);
    }
  }

  close() {
    this.failure = "it was closed";
    this.#agent.destroy();
  }
}

if (!isMainThread && workerData?.app) {
  const clients = [OverWebSocket, ByPolling].map((Kind) => new Kind(APPS[workerData.app]));
  const seen = { rounds: 0, worst: 0, failure: undefined };
  let watching;

  const round = async (client) => {
    try {
      seen.worst = Math.max(seen.worst, await client.ask());
      seen.rounds += 1;
    } catch (error) {
      seen.failure ??= `${client.name}: ${error.message}`;
    }
  };
  const watch = async (client) => {
    while (watching && !seen.failure) {
      await round(client);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  };
  const orders = {
    open: async () => {
      await Promise.all(clients.map((client) => client.open(workerData.url)));
      // Repeat, so that lazy initialization is complete before the measurement.
      for (let left = 20; left > 0; left -= 1) await Promise.all(clients.map(round));
      Object.assign(seen, { rounds: 0, worst: 0 });
    },
    watch: async () => {
      Object.assign(seen, { rounds: 0, worst: 0 });
      watching = true;
      orders.watched = Promise.all(clients.map(watch));
    },
    rest: async () => {
      watching = false;
      await orders.watched;
      await Promise.all(clients.map(round));
    },
    close: async () => clients.forEach((client) => client.close()),
  };
  parentPort.on("message", async (order) => {
    await orders[order]();
    parentPort.postMessage({ ...seen });
  });
}
