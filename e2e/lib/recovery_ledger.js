// Account of numbered messages with acknowledgements, and of recipients that recover their sessions.

/**
 * Messages of several senders, each with a number, and the messages that each recipient received
 *
 * A *confirmed* message must reach every recipient of its room once, and in the order of its sender, for as long as the
 * recipient's session lasts. A session lasts until the server admits the client with a new one. A message without a
 * confirmation may be missing or late, but not doubled.
 */
export class RecoveryLedger {
  #senders = new Map();
  #recipients = [];

  /** Begins a message, and returns its number */
  send(sender, room) {
    if (!this.#senders.has(sender)) this.#senders.set(sender, { room, outcomes: [] });
    return this.#senders.get(sender).outcomes.push("unknown");
  }

  /** Records the outcome of a message: `"confirmed"`, or `"refused"` */
  settle(sender, number, outcome) {
    this.#senders.get(sender).outcomes[number - 1] = outcome;
  }

  /** Numbers of messages by outcome */
  counts() {
    const counts = { confirmed: 0, refused: 0, unknown: 0 };
    for (const { outcomes } of this.#senders.values()) outcomes.forEach((outcome) => counts[outcome]++);
    return counts;
  }

  /** Number of received messages */
  received() {
    return this.#recipients.flatMap(({ sessions }) => sessions).reduce((sum, { received }) => sum + received.length, 0);
  }

  /** A recipient of the messages to a room */
  recipient(name, room) {
    const recipient = { name, room, sessions: [] };
    this.#recipients.push(recipient);
    return new Account(recipient, () => this.#numbers());
  }

  /** Copy with its own records, to plant faults in */
  copy() {
    const copy = new RecoveryLedger();
    copy.#senders = structuredClone(this.#senders);
    copy.#recipients = structuredClone(this.#recipients);
    return copy;
  }

  /**
   * Plants a fault: `"loss"`, `"double"` or `"order"`; returns the name of the recipient
   *
   * `random` returns numbers from 0 to 1.
   */
  plant(kind, random) {
    const places = [];
    for (const recipient of this.#recipients) {
      for (const { since, received } of recipient.sessions) {
        for (const [at, [sender, number]] of received.entries()) {
          // A later one of the same sender and session, since the last of a session may be missing.
          const next = received.findIndex((message, later) => later > at && message[0] === sender);
          const isRequired = number > (since.get(sender) ?? 0) && this.#isConfirmed(received[at]);
          if (next > at && isRequired && this.#isConfirmed(received[next])) {
            places.push({ recipient, received, at, next });
          }
        }
      }
    }
    const { recipient, received, at, next } = places[Math.floor(random() * places.length)];
    if (kind === "loss") received.splice(at, 1);
    if (kind === "double") received.splice(next, 0, received[at]);
    if (kind === "order") [received[at], received[next]] = [received[next], received[at]];
    return recipient.name;
  }

  /** Missing, doubled and disordered messages; empty if there are none */
  faults() {
    return this.#recipients.flatMap((recipient) => this.#faultsOf(recipient));
  }

  /** Messages that a recipient still has to receive */
  missing() {
    let missing = 0;
    for (const { room, sessions } of this.#recipients) {
      const last = sessions.at(-1);
      const seen = new Set(last?.received.map(String));
      for (const [sender, { outcomes }] of this.#sendersTo(room)) {
        const since = last?.since.get(sender) ?? 0;
        missing += outcomes.filter(
          (outcome, at) => at >= since && outcome === "confirmed" && !seen.has(`${sender},${at + 1}`),
        ).length;
      }
    }
    return missing;
  }

  #faultsOf({ name, room, sessions }) {
    const faults = [];
    const seen = new Set();
    const highest = new Map();
    for (const [place, { since, received }] of sessions.entries()) {
      const where = (message) => `${name}, session ${place + 1}: ${message[1]} of ${message[0]}`;
      for (const message of received) {
        const [sender, number] = message;
        if (seen.has(String(message))) {
          faults.push(`${where(message)} twice`);
        } else if (this.#isConfirmed(message)) {
          const before = highest.get(sender) ?? 0;
          if (number < before) faults.push(`${where(message)} after ${before}`);
          highest.set(sender, Math.max(before, number));
        }
        seen.add(String(message));
      }
      const isLast = place + 1 === sessions.length;
      for (const [sender, { outcomes }] of this.#sendersTo(room)) {
        const last = received.filter(([from]) => from === sender).reduce((max, [, number]) => Math.max(max, number), 0);
        const until = isLast ? outcomes.length : last;
        for (let number = (since.get(sender) ?? 0) + 1; number <= until; number++) {
          const message = [sender, number];
          if (this.#isConfirmed(message) && !seen.has(String(message))) faults.push(`${where(message)} is missing`);
        }
      }
    }
    return faults;
  }

  #sendersTo(room) {
    return [...this.#senders].filter(([, sender]) => sender.room === room);
  }

  #isConfirmed([sender, number]) {
    return this.#senders.get(sender)?.outcomes[number - 1] === "confirmed";
  }

  #numbers() {
    return new Map([...this.#senders].map(([sender, { outcomes }]) => [sender, outcomes.length]));
  }
}

/** Received messages of one recipient, by session */
class Account {
  #recipient;
  #numbers;
  #received = [];

  constructor(recipient, numbers) {
    this.#recipient = recipient;
    this.#numbers = numbers;
  }

  /** Number of sessions so far */
  get sessions() {
    return this.#recipient.sessions.length;
  }

  /** Begins a session; it is complete once the client has joined its room, see `joined` */
  begin() {
    this.#received = [];
    this.#recipient.sessions.push({ since: this.#numbers(), received: this.#received });
  }

  /** Messages that are sent from now on must arrive in this session */
  joined() {
    this.#recipient.sessions.at(-1).since = this.#numbers();
  }

  receive(sender, number) {
    this.#received.push([sender, number]);
  }
}
