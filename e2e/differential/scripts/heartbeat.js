import { each, once } from "../script.js";

export const subject = "heartbeat and time limits";
// A second before the first ping, and three for a pong: long enough for a busy machine.
export const flags = { "ping-interval": 1000, "ping-timeout": 3000, "connect-timeout": 20_000 };

/** Timings for clients that do not answer */
const strict = { flags: { "ping-timeout": 1000 } };
/** Timings for clients that join nothing: between the second ping and the third */
const impatient = { flags: { "connect-timeout": 2700 } };

export const scripts = [
  each("three pings and their pongs", async (stage) => {
    const peer = await stage.join("a");
    for (let round = 0; round < 3; round += 1) {
      await peer.hear();
      await peer.send("3");
    }
    await peer.emit("echo", "alive");
    await peer.hear();
  }),
  each("a client that does not answer", async (stage) => {
    const peer = await stage.join("a");
    await peer.hear();
    await peer.closed();
    await stage.noted(3);
  }, strict),
  once("events do not answer a ping", async (stage) => {
    const peer = await stage.join("a");
    await peer.hear();
    await peer.emit("echo", "not a pong");
    await peer.closed();
    await stage.noted(3);
  }, strict),
  once("no ping at the start", async (stage) => {
    const peer = await stage.join("a");
    await peer.quiet(200);
  }),
  each("a client that joins no namespace", async (stage) => {
    const peer = await stage.engine("a");
    await peer.hear();
    await peer.send("3");
    await peer.hear();
    await peer.send("3");
    await peer.closed();
  }, impatient),
  once("a client rejected by every namespace", async (stage) => {
    const peer = await stage.engine("a");
    await peer.connect("/unknown");
    await peer.hear();
    await peer.send("3");
    await peer.hear();
    await peer.send("3");
    await peer.closed();
  }, impatient),
  once("a client that has left every namespace stays", async (stage) => {
    const peer = await stage.join("a");
    await peer.send("41");
    for (let round = 0; round < 3; round += 1) {
      await peer.hear();
      await peer.send("3");
    }
    await peer.connect();
  }),
  once("a session whose poll is aborted ends at once", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling" });
    const parked = peer.park();
    await stage.settled();
    parked.abort();
    await stage.noted(3);
  }),
];
