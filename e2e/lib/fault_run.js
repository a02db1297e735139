// Faults on the servers, the engine and the connections of a cluster, while clients receive numbered messages.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded, shuffled } from "./random.js";
import { RecoveryLedger } from "./recovery_ledger.js";
import { Announcer, KINDS, Wanderer } from "./wanderer.js";

/** Faults that the ledger must find, see `RecoveryLedger.plant` */
const PLANTED = ["loss", "loss", "loss", "double", "order"];
const CLIENTS_PER_ROOM = 15;
const MOST_SHOWN = 20;
/** Pause of an announcer between two messages, in milliseconds */
const INTERVAL = 150;
/** Time in which all clients are connected again, and have received everything, once the faults are over */
const SETTLE = 60_000;

/**
 * A run of `seconds` with random faults, the same for the same seed
 *
 * `nodes` are the servers, see `Node`; messages are sent to the ones that confirm them. `faults` are the kinds of
 * faults, by name a function that resolves once the fault is over; the `frequent` ones occur twice as often.
 */
export class FaultRun {
  constructor({ seed, clients, nodes, faults, frequent = [], log = () => {} }) {
    this.seed = seed;
    this.random = seeded(seed);
    this.nodes = nodes;
    this.faults = faults;
    this.frequent = frequent;
    this.log = log;
    this.ledger = new RecoveryLedger();
    this.done = Object.fromEntries(Object.keys(faults).map((name) => [name, 0]));
    const rooms = Math.ceil(clients / CLIENTS_PER_ROOM);
    const room = (number) => `room ${number % rooms}`;
    // Each client has its own generator, since the order of their steps depends on the machine.
    this.wanderers = Array.from({ length: clients }, (_, number) => {
      const kind = KINDS[number % KINDS.length];
      const account = this.ledger.recipient(`client ${number} (${kind})`, room(number));
      const serving = () => this.nodes.filter(({ kinds }) => kinds.includes(kind));
      return new Wanderer({ kind, room: room(number), nodes: serving, account, random: seeded(seed + 1 + number) });
    });
    this.announcers = Array.from({ length: rooms }, (_, number) => {
      const random = seeded(seed - 1 - number);
      const name = `announcer ${number}`;
      const urls = () => this.nodes.filter(({ confirms }) => confirms).map(({ url }) => url);
      return new Announcer({ name, room: room(number), urls, random, ledger: this.ledger, interval: INTERVAL });
    });
  }

  /** Runs for a time, in seconds; resolves to whether everything has arrived after the faults */
  async run(seconds) {
    const wandering = this.wanderers.map((wanderer) => wanderer.start());
    await this.#until(() => this.wanderers.every(({ isJoined }) => isJoined), "all clients connect");
    const announcing = this.announcers.map((announcer) => announcer.start());
    await this.#inject(Date.now() + 1000 * seconds);
    for (const announcer of this.announcers) announcer.stop();
    await Promise.all(announcing);
    await Promise.all(this.announcers.map((announcer) => announcer.finish()));
    const isWhole = () => this.wanderers.every(({ isJoined }) => isJoined) && this.ledger.missing() === 0;
    const whole = await this.#until(isWhole, "everything has arrived");
    this.wanderers.forEach((wanderer) => wanderer.stop());
    await Promise.all(wandering);
    return whole;
  }

  /** Returns of clients with their session, and with a new one; `from` and `to` select them by their servers */
  returns(from, to) {
    const isSelected = (back) => (from ?? back.from) === back.from && (to ?? back.to) === back.to;
    const returns = this.wanderers.flatMap(({ returns }) => returns).filter(isSelected);
    const recovered = returns.filter(({ isRecovered }) => isRecovered).length;
    return { recovered, anew: returns.length - recovered };
  }

  /** Checks the ledger of a run, and that faults which are planted in a copy of it are found */
  check(isWhole) {
    const excused = this.ledger.excused();
    this.log(JSON.stringify({ ...this.ledger.counts(), received: this.ledger.received(), excused, ...this.returns() }));
    this.log(JSON.stringify(this.done));
    const faults = this.ledger.faults().slice(0, MOST_SHOWN);
    for (const { account, returns } of this.wanderers) {
      if (!faults.some((fault) => fault.startsWith(`${account.name},`))) continue;
      const trail = returns.map(({ from, to, isRecovered }) => `${from} to ${to}${isRecovered ? "" : ", anew"}`);
      this.log(`returns of ${account.name}: ${trail.join("; ")}`);
    }
    assert.deepEqual(faults, []);
    assert(isWhole, `${this.ledger.missing()} messages did not arrive`);
    const random = seeded(this.seed);
    for (const kind of PLANTED) {
      const copy = this.ledger.copy();
      const name = copy.plant(kind, random);
      const faults = copy.faults();
      assert(faults.length > 0 && faults.every((fault) => fault.startsWith(name)), `${kind}: ${faults}`);
    }
  }

  /** Breaks the connections of a fifth of the clients, or of most clients of the servers with a name */
  async cutClients(name) {
    const clients = this.wanderers.filter(({ to }) => (name ?? to?.name) === to?.name);
    for (const wanderer of clients) if (this.random() < (name ? 0.8 : 0.2)) wanderer.cut();
  }

  async #inject(end) {
    const names = Object.keys(this.faults);
    // Each kind once in random order, and then the frequent ones twice as often.
    let next = shuffled(names, this.random);
    for (;;) {
      const pause = 500 + this.random() * 2500;
      if (Date.now() + pause > end) return;
      await sleep(pause);
      if (next.length === 0) next = shuffled([...names, ...this.frequent], this.random);
      const name = next.pop();
      this.log(name);
      await this.faults[name](this.random);
      this.done[name]++;
    }
  }

  async #until(condition, what) {
    const begin = Date.now();
    while (!condition()) {
      if (Date.now() - begin > SETTLE) {
        this.log(`not in time: ${what}`);
        return false;
      }
      await sleep(200);
    }
    return true;
  }
}

/**
 * A server that restarts on its port
 *
 * `start(port)` starts its process, `kinds` are the clients that it serves, and `confirms` is whether it answers
 * announcers once a message is confirmed. `isExact` is whether it replays each missed message once.
 */
export class Node {
  constructor(port, start, { name = "roomcast", kinds = KINDS, confirms = true, isExact = true } = {}) {
    Object.assign(this, { port, begin: start, name, kinds, confirms, isExact, url: `http://127.0.0.1:${port}` });
  }

  async start() {
    this.server = await this.begin(this.port);
  }

  async stop() {
    await this.server?.stop();
  }

  /** Kills the process, and starts another after a time */
  async kill(away) {
    this.server.child.kill("SIGKILL");
    await this.server.exited;
    await sleep(away);
    await this.start();
  }

  /** Stops the process for a time, so that its connections stay open and silent */
  async freeze(time) {
    this.server.freeze();
    await sleep(time);
    this.server.thaw();
  }
}
