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

  /**
   * Records the outcome of a message: `"confirmed"`, `"refused"`, or `"silent"` if the server did not report it over a
   * connection that lasted
   */
  settle(sender, number, outcome) {
    this.#senders.get(sender).outcomes[number - 1] = outcome;
  }

  /** Numbers of messages by outcome */
  counts() {
    const counts = { confirmed: 0, refused: 0, silent: 0, unknown: 0 };
    for (const { outcomes } of this.#senders.values()) outcomes.forEach((outcome) => counts[outcome]++);
    return counts;
  }

  /** Number of received messages */
  received() {
    return this.#recipients.flatMap(({ sessions }) => sessions).reduce((sum, { received }) => sum + received.length, 0);
  }

  /** Number of faults that are excused, see `Account.returned` */
  excused() {
    return this.#recipients.reduce((sum, recipient) => sum + this.#faultsOf(recipient).excused, 0);
  }

  /** A recipient of the messages to a room */
  recipient(name, room) {
    const recipient = { name, room, sessions: [], excuses: [] };
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
        // A later one of the same sender and session, since the last of a session may be missing.
        const later = new Map();
        for (let at = received.length - 1; at >= 0; at--) {
          const [sender, number] = received[at];
          if (number <= (since.get(sender) ?? 0) || !this.#isConfirmed(received[at])) continue;
          if (["loss", "double"].some((kind) => isExcused(recipient.excuses, kind, sender, number))) continue;
          if (later.has(sender)) places.push({ recipient, received, at, next: later.get(sender) });
          later.set(sender, at);
        }
      }
    }
    const { recipient, received, at, next } = places[Math.floor(random() * places.length)];
    if (kind === "loss") received.splice(at, 1);
    if (kind === "double") received.splice(next, 0, received[at]);
    if (kind === "order") [received[at], received[next]] = [received[next], received[at]];
    return recipient.name;
  }

  /** Missing, doubled, disordered and unreported messages; empty if there are none */
  faults() {
    const silent = [...this.#senders].flatMap(([sender, { outcomes }]) =>
      outcomes.flatMap((outcome, at) => (outcome === "silent" ? [`${sender}: no report of ${at + 1}`] : [])),
    );
    return silent.concat(this.#recipients.flatMap((recipient) => this.#faultsOf(recipient).faults));
  }

  /** Messages that a recipient still has to receive */
  missing() {
    let missing = 0;
    for (const { room, sessions, excuses } of this.#recipients) {
      const last = sessions.at(-1);
      const seen = new Set(last?.received.map(keyOf));
      for (const [sender, { outcomes }] of this.#sendersTo(room)) {
        const since = last?.since.get(sender) ?? 0;
        missing += outcomes.filter(
          (outcome, at) =>
            at >= since &&
            outcome === "confirmed" &&
            !seen.has(keyOf([sender, at + 1])) &&
            !isExcused(excuses, "loss", sender, at + 1),
        ).length;
      }
    }
    return missing;
  }

  #faultsOf({ name, room, sessions, excuses }) {
    const faults = [];
    let excused = 0;
    const note = (kind, [sender, number], text) => {
      if (isExcused(excuses, kind, sender, number)) excused++;
      else faults.push(text);
    };
    /** Received messages, with the server that delivered them */
    const seen = new Map();
    const highest = new Map();
    for (const [place, { since, received }] of sessions.entries()) {
      const where = (message) => `${name}, session ${place + 1}: ${message[1]} of ${message[0]}`;
      for (const message of received) {
        const [sender, number, server = "the server"] = message;
        const before = seen.get(keyOf(message));
        if (before) {
          note("double", message, `${where(message)} twice, from ${before} and ${server}`);
        } else if (this.#isConfirmed(message)) {
          const last = highest.get(sender) ?? 0;
          if (number < last) faults.push(`${where(message)} after ${last}`);
          highest.set(sender, Math.max(last, number));
        }
        seen.set(keyOf(message), server);
      }
      const isLast = place + 1 === sessions.length;
      for (const [sender, { outcomes }] of this.#sendersTo(room)) {
        const last = received.filter(([from]) => from === sender).reduce((max, [, number]) => Math.max(max, number), 0);
        const until = isLast ? outcomes.length : last;
        for (let number = (since.get(sender) ?? 0) + 1; number <= until; number++) {
          const message = [sender, number];
          if (this.#isConfirmed(message) && !seen.has(keyOf(message))) {
            note("loss", message, `${where(message)} is missing`);
          }
        }
      }
    }
    return { faults, excused };
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

const keyOf = ([sender, number]) => `${sender},${number}`;

/** Whether a kind of fault of a message is excused */
const isExcused = (excuses, kind, sender, number) =>
  excuses.some((excuse) => number > (excuse[kind].get(sender) ?? 0) && number <= (excuse.until.get(sender) ?? 0));

/** Received messages of one recipient, by session */
class Account {
  #recipient;
  #numbers;
  #received = [];
  /** Highest received numbers: so far, and when the connection was lost */
  #highest = new Map();
  #lost = new Map();
  /** Messages that had reached the stream when the last attempt to connect began */
  #attempt = new Map();

  constructor(recipient, numbers) {
    this.#recipient = recipient;
    this.#numbers = numbers;
  }

  get name() {
    return this.#recipient.name;
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

  /** Records that the connection was lost */
  lost() {
    this.#lost = new Map(this.#highest);
  }

  /** Records an attempt to connect */
  attempt() {
    // The last message of a sender may be on its way.
    this.#attempt = new Map([...this.#numbers()].map(([sender, number]) => [sender, number - 1]));
  }

  /**
   * Records a return with the session to a server that replays messages while it receives others
   *
   * Such a server may deliver a missed message twice, and lose one that is sent meanwhile.
   */
  returned() {
    this.#recipient.excuses.push({ double: this.#lost, loss: this.#attempt, until: this.#numbers() });
  }

  receive(sender, number, server) {
    this.#highest.set(sender, Math.max(number, this.#highest.get(sender) ?? 0));
    this.#received.push([sender, number, server]);
  }
}
