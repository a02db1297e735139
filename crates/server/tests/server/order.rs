//! Order of handler starts, and of one sender's events at all recipients.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use roomcast_server::handler::serial;
use roomcast_server::socket::SocketId;
use roomcast_server::{Io, Socket};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::support::client::{ACK_KINDS, ALL, Client, ClientMessage, Kind};
use crate::support::dial::Dial;
use crate::support::recorder::{Recorder, ear};
use crate::support::serve::{On, Running, serve_on};

/// Events of one client in one write.
const BURST: usize = 1000;

/// Calls recorded for one client.
#[derive(Default)]
struct Course {
    /// Whether a handler is between its start and its first await.
    inside: bool,
    starts: Vec<usize>,
    overlaps: usize,
}

type Courses = Arc<Mutex<HashMap<SocketId, Course>>>;

fn with_course<T>(courses: &Courses, socket: &Socket, change: impl FnOnce(&mut Course) -> T) -> T {
    let mut courses = courses.lock().expect("not poisoned");
    change(courses.entry(socket.id().clone()).or_default())
}

fn said(args: Value) -> ClientMessage<'static> {
    ClientMessage { namespace: "/", ack: None, name: "message", args }
}

#[test]
fn starts_handlers_in_event_order() {
    for on in [On::CurrentThread, On::Workers(4), On::Threads(2)] {
        let courses = Courses::default();
        let (done, ear) = ear();
        let io = Io::new();
        let seen = courses.clone();
        io.on("message", move |socket: Socket, number: String| {
            let (courses, done) = (seen.clone(), done.clone());
            async move {
                let number: usize = number.parse().expect("a number");
                with_course(&courses, &socket, |course| {
                    course.overlaps += usize::from(std::mem::replace(&mut course.inside, true));
                    course.starts.push(number);
                });
                thread::yield_now();
                with_course(&courses, &socket, |course| course.inside = false);
                // Some complete at once, others need several polls.
                for _ in 0..number % 4 {
                    tokio::task::yield_now().await;
                }
                let _ = done.send(number);
            }
        });
        let server = serve_on(&io, on);
        let mut clients: Vec<_> = ALL.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
        for client in &mut clients {
            client.emit_all((0..BURST).map(|number| said(json!([number.to_string()]))).collect());
        }
        ear.take(BURST * clients.len());
        let courses = courses.lock().expect("not poisoned");
        assert_eq!(courses.len(), clients.len());
        for course in courses.values() {
            assert!(course.starts.iter().copied().eq(0..BURST), "{on:?}: {:?}", course.starts);
            assert_eq!(course.overlaps, 0, "{on:?}");
        }
    }
}

/// Clients of each kind; `LOAD` is the number of events of each.
const CROWD: usize = 6;
const LOAD: usize = 200;

/// Sends the events of all clients at once to handlers that wait in various ways; half of the clients also have a
/// waiting middleware.
fn a_crowd_is_heard_in_order(io: &Io, dial: &Dial) {
    let courses = Courses::default();
    let (done, heard) = ear();
    io.on_connect(async |socket: Socket| {
        if socket.id().as_str().as_bytes()[0].is_multiple_of(2) {
            socket.event_middleware(async |number: String| {
                if number.ends_with('7') {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            });
        }
    });
    let seen = courses.clone();
    io.on("message", move |socket: Socket, number: String| {
        let (courses, done) = (seen.clone(), done.clone());
        async move {
            let number: usize = number.parse().expect("a number");
            with_course(&courses, &socket, |course| {
                course.overlaps += usize::from(std::mem::replace(&mut course.inside, true));
                course.starts.push(number);
            });
            thread::yield_now();
            with_course(&courses, &socket, |course| course.inside = false);
            match number % 5 {
                0 => {}
                1 => tokio::task::yield_now().await,
                2 => tokio::time::sleep(Duration::from_micros(number as u64 * 13 % 1700)).await,
                3 => tokio::spawn(tokio::task::yield_now()).await.expect("no panic"),
                // The first await uses up the task's budget, so that the following ones are pending as well.
                _ => {
                    for _ in 0..150 {
                        tokio::task::consume_budget().await;
                    }
                }
            }
            let _ = done.send(());
        }
    });
    // A second handler processes one event of a socket at a time.
    let turns = Courses::default();
    let (told, through) = ear();
    let seen = turns.clone();
    io.on(
        "message",
        serial(move |socket: Socket, number: String| {
            let (turns, told) = (seen.clone(), told.clone());
            async move {
                let number: usize = number.parse().expect("a number");
                with_course(&turns, &socket, |course| {
                    course.overlaps += usize::from(std::mem::replace(&mut course.inside, true));
                    course.starts.push(number);
                });
                (0..number % 3).for_each(|_| thread::yield_now());
                tokio::task::yield_now().await;
                with_course(&turns, &socket, |course| course.inside = false);
                let _ = told.send(());
            }
        }),
    );
    let mut clients: Vec<_> = (0..CROWD).flat_map(|_| ALL).map(|kind| Client::connect(kind, dial)).collect();
    thread::scope(|scope| {
        for (at, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let mut numbers = 0..LOAD;
                for portion in (1 + at % 7..).step_by(5).map(|portion| portion % 31 + 1) {
                    let portion: Vec<_> = numbers.by_ref().take(portion).collect();
                    if portion.is_empty() {
                        break;
                    }
                    client.emit_all(portion.iter().map(|number| said(json!([number.to_string()]))).collect());
                }
            });
        }
    });
    heard.take(LOAD * clients.len());
    through.take(LOAD * clients.len());
    for courses in [courses, turns] {
        let courses = courses.lock().expect("not poisoned");
        assert_eq!(courses.len(), clients.len());
        for course in courses.values() {
            assert!(course.starts.iter().copied().eq(0..LOAD), "{:?}", course.starts);
            assert_eq!(course.overlaps, 0);
        }
    }
}

#[test]
fn keeps_crowd_order_standalone() {
    for on in [On::CurrentThread, On::Workers(4), On::Threads(2)] {
        let io = Io::new();
        let server = serve_on(&io, on);
        a_crowd_is_heard_in_order(&io, &server.dial);
    }
}

#[test]
fn keeps_crowd_order_mounted() {
    let io = Io::new();
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let dial = Dial::Tcp(listener.local_addr().expect("an address"));
    let routes = axum::Router::new().layer(io.layer());
    runtime.spawn(axum::serve(listener, routes).into_future());
    a_crowd_is_heard_in_order(&io, &dial);
    runtime.shutdown_background();
}

/// Events of each sender.
const LINES: usize = 300;

/// Relays each message to the room, and handles joins and leaves.
fn relay() -> (Io, Recorder<ThreadId>) {
    let (threads, ear) = ear();
    let io = Io::new();
    io.on_connect(move |socket: Socket| {
        let _ = threads.send(thread::current().id());
        // Listeners join at connect; others join and leave by message.
        socket.join("room");
        async {}
    });
    io.on("message", async |socket: Socket, text: String| {
        match text.as_str() {
            "join" => assert!(socket.join("room")),
            "leave" => assert!(socket.leave("room")),
            _ => return socket.within("room").emit("line", text).map(drop),
        }
        socket.emit("done", text).map(drop)
    });
    (io, ear)
}

/// Connects clients of these kinds, alternating between threads if there are two.
fn connect(server: &Running, on: On, threads: &Recorder<ThreadId>, kinds: &[Kind]) -> Vec<Client> {
    let mut first = None;
    let connect_one = |(at, kind): (usize, &Kind)| {
        loop {
            let client = Client::connect(*kind, &server.dial);
            let thread = threads.next();
            let same = *first.get_or_insert(thread) == thread;
            if !matches!(on, On::Threads(2)) || same == (at % 2 == 0) {
                return client;
            }
            client.close();
        }
    };
    kinds.iter().enumerate().map(connect_one).collect()
}

/// Number of the last line of each sender.
#[derive(Default)]
struct Heard(HashMap<String, usize>);

impl Heard {
    /// Records a line `sender number`, which must be the sender's next, or a later one if lines may be missed.
    fn note(&mut self, line: &Value, may_miss: impl FnOnce(&str) -> bool) {
        let (sender, number) = line[0].as_str().and_then(|line| line.split_once(' ')).expect("a line");
        let number: usize = number.parse().expect("a number");
        let may_miss = may_miss(sender);
        let next = self.0.get(sender).map_or(0, |last| last + 1);
        assert!(number == next || may_miss && number > next, "{sender} said {number}, not {next}");
        self.0.insert(sender.to_owned(), number);
    }
}

fn listen(client: &mut Client, lines: usize) {
    let mut heard = Heard::default();
    for _ in 0..lines {
        let (name, line) = client.event();
        assert_eq!(name, "line");
        heard.note(&line, |_| false);
    }
}

/// Sends its lines in portions, then listens.
fn speak(client: &mut Client, sender: usize, lines: usize) {
    let mut numbers = 0..LINES;
    for portion in (1..=7).cycle() {
        let line = |number| said(json!([format!("{sender} {number}")]));
        let portion: Vec<_> = numbers.by_ref().take(portion).map(line).collect();
        if portion.is_empty() {
            break;
        }
        client.emit_all(portion);
    }
    listen(client, lines);
}

/// Leaves and rejoins until the end; within each membership it misses no line after the first it receives.
fn come_and_go(client: &mut Client, over: &AtomicBool) {
    let mut heard = Heard::default();
    // Senders seen during this membership; the first membership began before any line was sent.
    let mut stay: Option<HashSet<String>> = None;
    while !over.load(Ordering::Relaxed) {
        for wish in ["leave", "join"] {
            if wish == "join" {
                stay = Some(HashSet::new());
            }
            client.emit("message", json!([wish]));
            loop {
                let (name, line) = client.event();
                if name == "done" {
                    break;
                }
                heard
                    .note(&line, |sender| stay.as_mut().is_some_and(|known| known.insert(sender.to_owned())));
            }
        }
    }
}

fn lines_of_a_sender_arrive_in_order(on: On) {
    let (io, threads) = relay();
    let server = serve_on(&io, on);
    let mut speakers = connect(&server, on, &threads, &ACK_KINDS);
    let mut listeners = connect(&server, on, &threads, &ALL);
    let mut guests = connect(&server, on, &threads, &[Kind::WebSocket, Kind::Polling, Kind::Plain]);
    let lines = speakers.len() * LINES;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        for guest in &mut guests {
            scope.spawn(move || come_and_go(guest, over));
        }
        let listeners = listeners.iter_mut().map(|client| scope.spawn(move || listen(client, lines)));
        let mut others: Vec<_> = listeners.collect();
        let speakers = speakers.iter_mut().enumerate();
        others.extend(speakers.map(|(at, client)| scope.spawn(move || speak(client, at, lines))));
        let outcomes: Vec<_> = others.into_iter().map(|thread| thread.join()).collect();
        over.store(true, Ordering::Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.expect("everything arrives in order"));
    });
}

#[test]
fn keeps_sender_order_on_workers() {
    lines_of_a_sender_arrive_in_order(On::Workers(4));
}

#[test]
fn keeps_sender_order_across_threads() {
    lines_of_a_sender_arrive_in_order(On::Threads(2));
}
