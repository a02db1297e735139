// A client that expects every event of an application, in order.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { PATIENCE } from "./patience.js";

/** A `socket.io-client` that queues received events */
export class Talk {
  #heard = [];
  #waiting;

  constructor(url, options = {}) {
    this.socket = io(url, { forceNew: true, reconnection: false, ...options });
    this.socket.onAny((event, ...args) => {
      this.#heard.push([event, ...args]);
      this.#waiting?.();
    });
  }

  /** Resolves when it has joined; rejects with the connect error */
  async connected() {
    await new Promise((resolve, reject) => this.socket.once("connect", resolve).once("connect_error", reject));
    return this;
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** Emits, and resolves to the ack */
  ask(event, ...args) {
    return this.socket.timeout(PATIENCE).emitWithAck(event, ...args);
  }

  /** Expects the next event, with these arguments */
  async expect(event, ...args) {
    assert.deepEqual(await this.next(`no ${event} came`), [event, ...args]);
  }

  /** Next message of any kind */
  async next(complaint = "no event") {
    if (!this.#heard.length) {
      await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(complaint)), PATIENCE);
        this.#waiting = () => (clearTimeout(late), resolve());
      });
      this.#waiting = undefined;
    }
    return this.#heard.shift();
  }

  /** Expects no further events, after a round trip to the server */
  async expectNothing(question = ["no such event"]) {
    await this.socket.timeout(100).emitWithAck(...question).catch(() => {});
    assert.deepEqual(this.#heard, []);
  }

  /** Disconnects */
  leave() {
    this.socket.disconnect();
  }
}
