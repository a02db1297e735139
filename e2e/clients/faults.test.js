// Faults on connections and on the server's process, while clients of all kinds receive numbered messages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FaultRun, Node } from "../lib/fault_run.js";
import { RecoveryLedger } from "../lib/recovery_ledger.js";
import { lastingPort, startExample, target } from "../lib/server.js";

const skip = target === "node" && "an application of our own";
const SEED = Number(process.env.ROOMCAST_FAULTS_SEED ?? 1);
const SECONDS = Number(process.env.ROOMCAST_FAULTS_SECONDS ?? 12);

/** Ledger of one client and one sender: messages with their outcomes, and what each session received */
function ledgerOf(outcomes, ...sessions) {
  const ledger = new RecoveryLedger();
  const account = ledger.recipient("client", "room");
  account.begin();
  account.joined();
  for (const outcome of outcomes) ledger.settle("a", ledger.send("a", "room"), outcome);
  for (const [place, received] of sessions.entries()) {
    if (place > 0) account.begin();
    received.forEach((number) => account.receive("a", number));
  }
  return ledger;
}

const CONFIRMED = ["confirmed", "confirmed", "confirmed"];
const CASES = {
  "all arrive": [ledgerOf(CONFIRMED, [1, 2, 3]), []],
  "one is missing": [ledgerOf(CONFIRMED, [1, 3]), ["client, session 1: 2 of a is missing"]],
  "the last is missing": [ledgerOf(CONFIRMED, [1, 2]), ["client, session 1: 3 of a is missing"]],
  "one is doubled": [ledgerOf(CONFIRMED, [1, 2, 2, 3]), ["client, session 1: 2 of a twice, from the server and the server"]],
  "two are exchanged": [ledgerOf(CONFIRMED, [1, 3, 2]), ["client, session 1: 2 of a after 3"]],
  "one is missing between two sessions": [ledgerOf(CONFIRMED, [1], [3]), []],
  "one is missing within the first session": [
    ledgerOf([...CONFIRMED, "confirmed"], [1, 3], [4]),
    ["client, session 1: 2 of a is missing"],
  ],
  "one is doubled by a new session": [ledgerOf(CONFIRMED, [1, 2], [2, 3]), ["client, session 2: 2 of a twice, from the server and the server"]],
  "one is not reported to its sender": [ledgerOf(["confirmed", "silent"], [1]), ["a: no report of 2"]],
  "one without a confirmation is missing": [ledgerOf(["confirmed", "unknown", "confirmed"], [1, 3]), []],
  "one without a confirmation is late": [ledgerOf(["unknown", "confirmed", "confirmed"], [2, 1, 3]), []],
  "one without a confirmation is doubled": [
    ledgerOf(["confirmed", "unknown"], [1, 2, 2]),
    ["client, session 1: 2 of a twice, from the server and the server"],
  ],
};
for (const [name, [ledger, faults]] of Object.entries(CASES)) {
  test(`the ledger: ${name}`, () => assert.deepEqual(ledger.faults(), faults));
}

test("nothing confirmed is lost, doubled or out of order while connections break", { skip }, async (context) => {
  const port = await lastingPort();
  const flags = { "ping-interval": 1000, "ping-timeout": 1000, threads: 2 };
  const node = new Node(port, (port) => startExample("recovery_server", { ...flags, port }));
  await node.start();
  const run = new FaultRun({
    seed: SEED,
    clients: 60,
    nodes: [node],
    faults: {
      "clients lose their connections": () => run.cutClients(),
      "the server is frozen": (random) => node.freeze(500 + 3000 * random()),
    },
    log: (line) => context.diagnostic(line),
  });
  try {
    const isWhole = await run.run(SECONDS);
    run.check(isWhole);
    assert.equal(run.returns().anew, 0, "a client did not recover");
    assert(run.returns().recovered > 0);
  } finally {
    await node.stop();
  }
});
