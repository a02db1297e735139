// A lobby with rooms for noughts and crosses on Node's implementation; ported to
// crates/roomcast/examples/game_lobby.rs.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { portOption } from "./options.js";

const LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

const http = createServer((_request, response) => response.writeHead(404).end());
const io = new Server(http);

/** Rooms by name: `{ players: [socket id], board, turn }`; a game runs while there is a board */
const games = new Map();

// Players choose room names, which must not give access to other rooms.
const room = (name) => `game ${name}`;

io.use((socket, next) => {
  const { name } = socket.handshake.auth;
  if (typeof name !== "string" || !name) {
    return next(Object.assign(new Error("a name is missing"), { data: { field: "name" } }));
  }
  socket.data.name = name;
  next();
});

io.on("connection", (socket) => {
  socket.join("lobby");
  socket.emit("rooms", list());

  socket.on("create", (name, answer) => {
    if (games.has(name)) return answer({ error: "there is such a room already" });
    if (socket.data.game !== undefined) return answer({ error: "you are in a room" });
    games.set(name, { players: [], board: null, turn: 0 });
    enter(socket, name);
    answer({ ok: true });
  });

  socket.on("join", (name, answer) => {
    const game = games.get(name);
    if (!game) return answer({ error: "there is no such room" });
    if (socket.data.game !== undefined) return answer({ error: "you are in a room" });
    if (game.players.length === 2) return answer({ error: "the room is full" });
    enter(socket, name);
    answer({ ok: true });
    if (game.players.length === 2) start(name, game);
  });

  socket.on("leave", (answer) => {
    if (socket.data.game === undefined) return answer({ error: "you are in no room" });
    leave(socket);
    socket.join("lobby");
    answer({ ok: true });
    socket.emit("rooms", list());
  });

  socket.on("move", (cell, answer) => {
    const name = socket.data.game;
    const game = games.get(name);
    if (!game?.board) return answer({ error: "there is no game" });
    if (game.players[game.turn] !== socket.id) return answer({ error: "it is not your turn" });
    if (game.board[cell] !== "") return answer({ error: "this cell is not free" });
    game.board[cell] = "XO"[game.turn];
    answer({ ok: true });
    io.to(room(name)).emit("moved", { cell, mark: game.board[cell], by: socket.data.name });
    const won = LINES.some((line) => line.every((at) => game.board[at] === game.board[cell]));
    if (won) return end(name, game, { winner: socket.data.name });
    if (!game.board.includes("")) return end(name, game, { winner: null });
    game.turn = 1 - game.turn;
    io.to(game.players[game.turn]).emit("your turn");
  });

  socket.on("say", (text) => {
    const here = socket.data.game === undefined ? "lobby" : room(socket.data.game);
    socket.to(here).emit("said", { by: socket.data.name, text });
  });

  socket.on("disconnecting", () => {
    if (socket.data.game !== undefined) leave(socket);
  });
});

function list() {
  return [...games].map(([name, { players, board }]) => ({ name, players: players.length, playing: board !== null }));
}

function tellLobby() {
  io.to("lobby").emit("rooms", list());
}

function enter(socket, name) {
  socket.leave("lobby");
  socket.join(room(name));
  socket.data.game = name;
  games.get(name).players.push(socket.id);
  socket.to(room(name)).emit("joined", { name: socket.data.name });
  tellLobby();
}

function leave(socket) {
  const name = socket.data.game;
  const game = games.get(name);
  socket.leave(room(name));
  socket.data.game = undefined;
  game.players = game.players.filter((id) => id !== socket.id);
  io.to(room(name)).emit("left", { name: socket.data.name });
  if (game.board) {
    const [other] = game.players;
    end(name, game, { winner: io.sockets.sockets.get(other).data.name });
  }
  if (game.players.length === 0) games.delete(name);
  tellLobby();
}

function start(name, game) {
  game.board = Array(9).fill("");
  game.turn = 0;
  const players = game.players.map((id) => io.sockets.sockets.get(id).data.name);
  io.to(room(name)).emit("started", { players });
  io.to(game.players[0]).emit("your turn");
  tellLobby();
}

function end(name, game, outcome) {
  game.board = null;
  io.to(room(name)).emit("ended", outcome);
  tellLobby();
}

http.listen(portOption(), "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}`));
