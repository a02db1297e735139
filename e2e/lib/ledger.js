// Accounts of numbered messages: sent by each sender, and received by each connection of a client.

/** Messages of several senders, each numbered from 1, and the recipients that have to get all of them */
export class Ledger {
  #sent = new Map();
  #recipients = new Map();

  /** Returns the number of the sender's next message */
  send(sender) {
    const number = (this.#sent.get(sender) ?? 0) + 1;
    this.#sent.set(sender, number);
    return number;
  }

  /** Numbers of messages by sender so far */
  sent() {
    return new Map(this.#sent);
  }

  total() {
    return [...this.#sent.values()].reduce((sum, count) => sum + count, 0);
  }

  /** A recipient of all messages that are sent from now on */
  recipient(name) {
    const recipient = { since: this.sent(), connections: [] };
    this.#recipients.set(name, recipient);
    return {
      /** A connection of the recipient; it records each received message */
      connection() {
        const received = [];
        recipient.connections.push(received);
        return (sender, number) => received.push([sender, number]);
      },
    };
  }

  /** Missing, doubled and disordered messages; empty if there are none */
  faults() {
    const faults = [];
    for (const [name, { since, connections }] of this.#recipients) {
      const seen = new Set();
      for (const [place, received] of connections.entries()) {
        const last = new Map();
        for (const [sender, number] of received) {
          const before = last.get(sender) ?? 0;
          const where = `${name}, connection ${place + 1}: ${number} of ${sender}`;
          if (number === before) faults.push(`${where} twice`);
          else if (number < before) faults.push(`${where} after ${before}`);
          last.set(sender, Math.max(before, number));
          seen.add(`${sender} ${number}`);
        }
      }
      for (const [sender, count] of this.#sent) {
        for (let number = (since.get(sender) ?? 0) + 1; number <= count; number++) {
          if (!seen.has(`${sender} ${number}`)) faults.push(`${name}: ${number} of ${sender} is missing`);
        }
      }
    }
    return faults;
  }
}
