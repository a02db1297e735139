//! A lobby with rooms for noughts and crosses, moved here from Node
//!
//! `cargo run --example game_lobby -- --port 3000`. What it was on Node is `e2e/reference/game_lobby.js`; both pass the
//! same tests, by clients of Node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use roomcast::socket::SocketId;
use roomcast::{Ack, Auth, ConnectError, EmitError, Io, Server, Socket, State, Value, json};
use serde::Deserialize;

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let bound = Server::new(application()).bind(("127.0.0.1", Options::parse().port))?;
    println!("http://{}", bound.address());
    match bound.serve().await? {}
}

fn application() -> Io {
    let io = Io::builder().state(Lobby::default()).build();
    io.main().middleware(check_name);
    io.on_connect(connect)
        .on("create", create)
        .on("join", join)
        .on("leave", leave)
        .on("move", play)
        .on("say", say);
    io.main().on_disconnecting(disconnecting);
    io
}

type Outcome = Result<(), EmitError>;

#[derive(Deserialize)]
struct Player {
    name: Option<String>,
}

async fn check_name(Auth(player): Auth<Player>) -> Result<(), ConnectError> {
    match player.name.as_deref() {
        None | Some("") => Err(ConnectError::new("a name is missing").with_data(&json!({ "field": "name" }))),
        Some(_) => Ok(()),
    }
}

async fn connect(socket: Socket, State(lobby): State<Lobby>, Auth(player): Auth<Player>) -> Outcome {
    lobby.with(|tables| {
        tables.names.insert(socket.id().clone(), player.name.unwrap_or_default());
        socket.join(LOBBY);
        socket.emit("rooms", tables.list()).map(drop)
    })
}

async fn create(socket: Socket, State(lobby): State<Lobby>, name: String, ack: Ack) -> Outcome {
    lobby.with(|tables| {
        if tables.games.iter().any(|game| game.name == name) {
            return refuse(ack, "there is such a room already");
        }
        if tables.game_of(socket.id()).is_some() {
            return refuse(ack, "you are in a room");
        }
        tables.games.push(Game { name, players: Vec::new(), board: None, turn: 0 });
        let at = tables.games.len() - 1;
        tables.enter(&socket, at)?;
        accept(ack)
    })
}

async fn join(socket: Socket, State(lobby): State<Lobby>, name: String, ack: Ack) -> Outcome {
    lobby.with(|tables| {
        let Some(at) = tables.games.iter().position(|game| game.name == name) else {
            return refuse(ack, "there is no such room");
        };
        if tables.game_of(socket.id()).is_some() {
            return refuse(ack, "you are in a room");
        }
        if tables.games[at].players.len() == 2 {
            return refuse(ack, "the room is full");
        }
        tables.enter(&socket, at)?;
        accept(ack)?;
        if tables.games[at].players.len() == 2 { tables.start(socket.io(), at) } else { Ok(()) }
    })
}

async fn leave(socket: Socket, State(lobby): State<Lobby>, ack: Ack) -> Outcome {
    lobby.with(|tables| {
        let Some(at) = tables.game_of(socket.id()) else { return refuse(ack, "you are in no room") };
        tables.leave(&socket, at)?;
        socket.join(LOBBY);
        accept(ack)?;
        socket.emit("rooms", tables.list()).map(drop)
    })
}

async fn play(socket: Socket, State(lobby): State<Lobby>, cell: usize, ack: Ack) -> Outcome {
    lobby.with(|tables| {
        let at = tables.game_of(socket.id());
        let Some((at, game)) = at.map(|at| (at, &mut tables.games[at])) else {
            return refuse(ack, "there is no game");
        };
        let Some(board) = &mut game.board else { return refuse(ack, "there is no game") };
        if game.players.get(game.turn) != Some(socket.id()) {
            return refuse(ack, "it is not your turn");
        }
        let Some(free) = board.get_mut(cell).filter(|mark| mark.is_none()) else {
            return refuse(ack, "this cell is not free");
        };
        let mark = MARKS[game.turn];
        *free = Some(mark);
        let board = *board;
        accept(ack)?;
        let (io, by) = (socket.io(), &tables.names[socket.id()]);
        io.to(game.room()).emit("moved", json!({ "cell": cell, "mark": mark, "by": by }))?;
        if LINES.iter().any(|line| line.iter().all(|&at| board[at] == Some(mark))) {
            let winner = by.clone();
            return tables.end(io, at, Some(winner));
        }
        if board.iter().all(Option::is_some) {
            return tables.end(io, at, None);
        }
        game.turn = 1 - game.turn;
        io.to(game.players[game.turn].as_str()).emit("your turn", ()).map(drop)
    })
}

async fn say(socket: Socket, State(lobby): State<Lobby>, text: String) -> Outcome {
    lobby.with(|tables| {
        let here = tables.game_of(socket.id()).map_or_else(|| LOBBY.to_owned(), |at| tables.games[at].room());
        let said = json!({ "by": tables.names.get(socket.id()), "text": text });
        socket.to(here).emit("said", said).map(drop)
    })
}

async fn disconnecting(socket: Socket, State(lobby): State<Lobby>) -> Outcome {
    lobby.with(|tables| {
        let left = tables.game_of(socket.id()).map_or(Ok(()), |at| tables.leave(&socket, at));
        tables.names.remove(socket.id());
        left
    })
}

fn accept(ack: Ack) -> Outcome {
    ack.send(json!({ "ok": true })).map(drop)
}

fn refuse(ack: Ack, why: &str) -> Outcome {
    ack.send(json!({ "error": why })).map(drop)
}

/// State of all players; the events of a change are emitted before the next change.
#[derive(Clone, Default)]
struct Lobby(Arc<Mutex<Tables>>);

impl Lobby {
    fn with<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Default)]
struct Tables {
    names: HashMap<SocketId, String>,
    /// In the order in which they were opened
    games: Vec<Game>,
}

struct Game {
    name: String,
    players: Vec<SocketId>,
    /// There while a game is on
    board: Option<[Option<char>; 9]>,
    turn: usize,
}

impl Game {
    /// Players choose the names of their rooms, and shall not come into others by it
    fn room(&self) -> String {
        format!("game {}", self.name)
    }
}

impl Tables {
    fn game_of(&self, id: &SocketId) -> Option<usize> {
        self.games.iter().position(|game| game.players.contains(id))
    }

    fn list(&self) -> Value {
        let rooms = self.games.iter().map(|Game { name, players, board, .. }| {
            json!({ "name": name, "players": players.len(), "playing": board.is_some() })
        });
        rooms.collect()
    }

    fn tell_lobby(&self, io: &Io) -> Outcome {
        io.to(LOBBY).emit("rooms", self.list()).map(drop)
    }

    fn enter(&mut self, socket: &Socket, at: usize) -> Outcome {
        let game = &mut self.games[at];
        socket.leave(LOBBY);
        socket.join(game.room());
        game.players.push(socket.id().clone());
        socket.to(game.room()).emit("joined", json!({ "name": self.names[socket.id()] }))?;
        self.tell_lobby(&socket.io())
    }

    fn leave(&mut self, socket: &Socket, at: usize) -> Outcome {
        let (io, game) = (socket.io(), &mut self.games[at]);
        socket.leave(game.room());
        game.players.retain(|id| id != socket.id());
        io.to(game.room()).emit("left", json!({ "name": self.names[socket.id()] }))?;
        if game.board.is_some() {
            let winner = game.players.first().and_then(|other| self.names.get(other)).cloned();
            self.end(io.clone(), at, winner)?;
        }
        if self.games[at].players.is_empty() {
            self.games.remove(at);
        }
        self.tell_lobby(&io)
    }

    fn start(&mut self, io: Io, at: usize) -> Outcome {
        let game = &mut self.games[at];
        game.board = Some([None; 9]);
        game.turn = 0;
        let players: Vec<_> = game.players.iter().map(|id| &self.names[id]).collect();
        io.to(game.room()).emit("started", json!({ "players": players }))?;
        io.to(game.players[0].as_str()).emit("your turn", ())?;
        self.tell_lobby(&io)
    }

    fn end(&mut self, io: Io, at: usize, winner: Option<String>) -> Outcome {
        let game = &mut self.games[at];
        game.board = None;
        io.to(game.room()).emit("ended", json!({ "winner": winner }))?;
        self.tell_lobby(&io)
    }
}

const LOBBY: &str = "lobby";
const MARKS: [char; 2] = ['X', 'O'];
const LINES: [[usize; 3]; 8] =
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

#[cfg(test)]
mod tests {
    use roomcast_testkit::{NotConnected, TestClient};

    use super::*;

    async fn enter(io: &Io, name: &str) -> TestClient {
        let mut client = TestClient::builder(io).auth(json!({ "name": name })).connect().await;
        client.expect::<Value>("rooms").await;
        client
    }

    /// Emits and expects a successful acknowledgement.
    async fn ask(client: &mut TestClient, event: &str, what: impl roomcast::emit::IntoArgs) {
        assert_eq!(client.emit_with_ack::<Value>(event, what).await, json!({ "ok": true }), "{event}");
    }

    async fn is_refused(
        client: &mut TestClient,
        event: &str,
        what: impl roomcast::emit::IntoArgs,
        why: &str,
    ) {
        assert_eq!(client.emit_with_ack::<Value>(event, what).await, json!({ "error": why }), "{event}");
    }

    #[tokio::test]
    async fn rejects_player_without_name() {
        let io = application();
        for auth in [json!({}), json!({ "name": "" })] {
            let refused =
                TestClient::builder(&io).auth(auth).try_connect().await.expect_err("it has no name");
            let expected = json!({ "message": "a name is missing", "data": { "field": "name" } });
            assert_eq!(refused, NotConnected::Refused(expected));
        }
    }

    #[tokio::test]
    async fn lobby_sees_complete_game() {
        let io = application();
        let (mut anna, mut ben, mut cleo) =
            (enter(&io, "Anna").await, enter(&io, "Ben").await, enter(&io, "Cleo").await);
        let room = |players: usize, playing: bool| json!([{ "name": "red", "players": players, "playing": playing }]);
        ask(&mut anna, "create", "red").await;
        assert_eq!(ben.expect::<Value>("rooms").await, room(1, false));
        ask(&mut ben, "join", "red").await;
        assert_eq!(anna.expect::<Value>("joined").await, json!({ "name": "Ben" }));
        for player in [&mut anna, &mut ben] {
            assert_eq!(player.expect::<Value>("started").await, json!({ "players": ["Anna", "Ben"] }));
        }
        for expected in [room(1, false), room(2, false), room(2, true)] {
            assert_eq!(cleo.expect::<Value>("rooms").await, expected);
        }
        is_refused(&mut cleo, "join", "red", "the room is full").await;
        is_refused(&mut ben, "move", 4, "it is not your turn").await;
        for (turn, cell) in [0, 3, 1, 4, 2].into_iter().enumerate() {
            let (player, name) = if turn % 2 == 0 { (&mut anna, "Anna") } else { (&mut ben, "Ben") };
            let () = player.expect("your turn").await;
            if turn == 1 {
                is_refused(player, "move", 0, "this cell is not free").await;
                is_refused(player, "move", 9, "this cell is not free").await;
            }
            ask(player, "move", cell).await;
            let moved = json!({ "cell": cell, "mark": if turn % 2 == 0 { "X" } else { "O" }, "by": name });
            for player in [&mut anna, &mut ben] {
                assert_eq!(player.expect::<Value>("moved").await, moved);
            }
        }
        for player in [&mut anna, &mut ben] {
            assert_eq!(player.expect::<Value>("ended").await, json!({ "winner": "Anna" }));
            player.expect_nothing().await;
        }
        assert_eq!(cleo.expect::<Value>("rooms").await, room(2, false));
    }

    #[tokio::test]
    async fn leaving_player_loses_and_room_closes() {
        let io = application();
        let (mut anna, mut ben) = (enter(&io, "Anna").await, enter(&io, "Ben").await);
        ask(&mut anna, "create", "red").await;
        ben.expect::<Value>("rooms").await;
        ask(&mut ben, "join", "red").await;
        anna.expect::<Value>("joined").await;
        anna.expect::<Value>("started").await;
        let () = anna.expect("your turn").await;
        drop(ben);
        assert_eq!(anna.expect::<Value>("left").await, json!({ "name": "Ben" }));
        assert_eq!(anna.expect::<Value>("ended").await, json!({ "winner": "Anna" }));
        ask(&mut anna, "leave", ()).await;
        assert_eq!(anna.expect::<Value>("rooms").await, json!([]));
        is_refused(&mut anna, "leave", (), "you are in no room").await;
        is_refused(&mut anna, "move", 0, "there is no game").await;
        is_refused(&mut anna, "join", "red", "there is no such room").await;
    }
}
