import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { startApplication, target } from "../lib/server.js";
import { Talk } from "../lib/talk.js";

for (const transports of [["websocket"], ["polling"]]) {
  describe(`a lobby with rooms for games, by ${transports}, on ${target}`, () => {
    let server;
    // One per test, because clients of an earlier test may still be connected.
    beforeEach(async () => (server = await startApplication("game_lobby")));
    afterEach(() => server.stop());

    const come = async (name) => {
      const talk = await new Talk(server.url, { transports, auth: { name } }).connected();
      await talk.expect("rooms", []);
      return talk;
    };
    const room = (players, playing) => [{ name: "red", players, playing }];
    const ok = { ok: true };

    test("rejects a client without a name, with the reason", async () => {
      for (const auth of [{}, { name: "" }, { name: null }]) {
        await assert.rejects(new Talk(server.url, { transports, auth }).connected(), (error) => {
          assert.equal(error.message, "a name is missing");
          assert.deepEqual(error.data, { field: "name" });
          return true;
        });
      }
    });

    test("two clients finish a game while the lobby is updated", async () => {
      const [anna, ben, cleo] = [await come("Anna"), await come("Ben"), await come("Cleo")];
      assert.deepEqual(await anna.ask("create", "red"), ok);
      assert.deepEqual(await cleo.ask("create", "red"), { error: "there is such a room already" });
      assert.deepEqual(await anna.ask("create", "blue"), { error: "you are in a room" });
      await ben.expect("rooms", room(1, false));
      assert.deepEqual(await ben.ask("join", "red"), ok);
      await anna.expect("joined", { name: "Ben" });
      for (const player of [anna, ben]) await player.expect("started", { players: ["Anna", "Ben"] });
      for (const [players, playing] of [[1, false], [2, false], [2, true]]) {
        await cleo.expect("rooms", room(players, playing));
      }
      assert.deepEqual(await cleo.ask("join", "red"), { error: "the room is full" });
      assert.deepEqual(await cleo.ask("join", "green"), { error: "there is no such room" });
      assert.deepEqual(await ben.ask("move", 4), { error: "it is not your turn" });

      cleo.emit("say", "to the lobby alone");
      ben.emit("say", "good luck");
      await anna.expect("your turn");
      await anna.expect("said", { by: "Ben", text: "good luck" });

      const marks = ["X", "O"];
      for (const [turn, cell] of [0, 3, 1, 4, 2].entries()) {
        const player = [anna, ben][turn % 2];
        if (turn > 0) await player.expect("your turn");
        if (turn === 1) assert.deepEqual(await player.ask("move", 0), { error: "this cell is not free" });
        assert.deepEqual(await player.ask("move", cell), ok);
        const moved = { cell, mark: marks[turn % 2], by: ["Anna", "Ben"][turn % 2] };
        for (const each of [anna, ben]) await each.expect("moved", moved);
      }
      for (const player of [anna, ben]) await player.expect("ended", { winner: "Anna" });
      await cleo.expect("rooms", room(2, false));
      assert.deepEqual(await anna.ask("move", 8), { error: "there is no game" });

      assert.deepEqual(await ben.ask("leave"), ok);
      await ben.expect("rooms", room(1, false));
      await anna.expect("left", { name: "Ben" });
      assert.deepEqual(await anna.ask("leave"), ok);
      await anna.expect("rooms", []);
      for (const talk of [anna, ben, cleo]) talk.leave();
    });

    test("a full board is a draw", async () => {
      const [anna, ben] = [await come("Anna"), await come("Ben")];
      await anna.ask("create", "red");
      await ben.ask("join", "red");
      for (const [turn, cell] of [0, 1, 2, 4, 3, 5, 7, 6, 8].entries()) {
        assert.deepEqual(await [anna, ben][turn % 2].ask("move", cell), ok, `turn ${turn}`);
      }
      let last;
      do last = await anna.next();
      while (last[0] !== "ended");
      assert.deepEqual(last, ["ended", { winner: null }]);
      for (const talk of [anna, ben]) talk.leave();
    });

    test("a disconnected player loses, and empty rooms are closed", async () => {
      const anna = await come("Anna");
      const ben = await come("Ben");
      await anna.ask("create", "red");
      await ben.ask("join", "red");
      await anna.expect("joined", { name: "Ben" });
      await anna.expect("started", { players: ["Anna", "Ben"] });
      await anna.expect("your turn");
      ben.socket.io.engine.close();
      await anna.expect("left", { name: "Ben" });
      await anna.expect("ended", { winner: "Anna" });
      const cleo = await new Talk(server.url, { transports, auth: { name: "Cleo" } }).connected();
      await cleo.expect("rooms", room(1, false));
      anna.leave();
      await cleo.expect("rooms", []);
      cleo.leave();
    });
  });
}
