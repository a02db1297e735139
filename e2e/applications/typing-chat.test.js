import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { startApplication, target } from "../lib/server.js";
import { Talk } from "../lib/talk.js";

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  describe(`a chat with typing notices, by ${transports.join(" and ")}, on ${target}`, () => {
    let server;
    // One per test, because clients of an earlier test may still be connected.
    beforeEach(async () => (server = await startApplication("typing_chat")));
    afterEach(() => server.stop());

    const come = async (name, numUsers, others = []) => {
      const talk = await new Talk(server.url, { transports }).connected();
      talk.emit("add user", name);
      await talk.expect("login", { numUsers });
      for (const other of others) await other.expect("user joined", { username: name, numUsers });
      return talk;
    };

    test("users join, type, send and leave", async () => {
      const anna = await come("Anna", 1);
      const ben = await come("Ben", 2, [anna]);
      const cleo = await come("Cleo", 3, [anna, ben]);

      // A volatile notice may be dropped while a client is not ready, as between two polls.
      if (transports.length === 1 && transports[0] === "websocket") {
        ben.emit("typing");
        for (const other of [anna, cleo]) await other.expect("typing", { username: "Ben" });
      }
      ben.emit("stop typing");
      ben.emit("new message", "hello, all");
      for (const other of [anna, cleo]) {
        await other.expect("stop typing", { username: "Ben" });
        await other.expect("new message", { username: "Ben", message: "hello, all" });
      }
      await ben.expectNothing();

      cleo.leave();
      for (const other of [anna, ben]) await other.expect("user left", { username: "Cleo", numUsers: 2 });
      anna.leave();
      await ben.expect("user left", { username: "Anna", numUsers: 1 });
      ben.leave();
    });

    test("names are unique, and unnamed users are invisible", async () => {
      const anna = await come("Anna", 1);
      anna.emit("add user", "Berta");
      const nobody = await new Talk(server.url, { transports }).connected();
      nobody.emit("new message", "who am I?");
      const [event, { message }] = await anna.next();
      assert.deepEqual([event, message], ["new message", "who am I?"]);
      nobody.leave();
      await anna.expectNothing();
      const ben = await come("Ben", 2, [anna]);
      anna.emit("new message", "still Anna");
      await ben.expect("new message", { username: "Anna", message: "still Anna" });
      for (const talk of [anna, ben]) talk.leave();
    });
  });
}
