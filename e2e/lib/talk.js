// A client of an application, of which every event is asked for in the order in which it comes.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { PATIENCE } from "./patience.js";

/** A `socket.io-client` that remembers what it hears until it is asked for */
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

  /** Resolves when it has joined; rejects with the error if it is refused */
  async connected() {
    await new Promise((resolve, reject) => this.socket.once("connect", resolve).once("connect_error", reject));
    return this;
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** Emits, and resolves to the answer */
  ask(event, ...args) {
    return this.socket.timeout(PATIENCE).emitWithAck(event, ...args);
  }

  /** The next event must be this one, with these arguments */
  async expect(event, ...args) {
    assert.deepEqual(await this.next(`no ${event} came`), [event, ...args]);
  }

  /** Next message of any kind */
  async next(complaint = "nothing came") {
    if (!this.#heard.length) {
      await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(complaint)), PATIENCE);
        this.#waiting = () => (clearTimeout(late), resolve());
      });
      this.#waiting = undefined;
    }
    return this.#heard.shift();
  }

  /** Nothing may have come that was not asked for, once the server has answered a question */
  async expectNothing(question = ["no such event"]) {
    await this.socket.timeout(100).emitWithAck(...question).catch(() => {});
    assert.deepEqual(this.#heard, []);
  }

  /** Goes away, as a client does that means to */
  leave() {
    this.socket.disconnect();
  }
}
