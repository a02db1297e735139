//! Host double that records its calls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_core::{
    AnswerSink, Args, ByteString, ClusterHost, Event, MemberControl, Membership, Room, SocketId, SocketInfo,
    Target,
};

/// Namespace of a node with some sockets, each in the rooms listed for it.
#[derive(Default)]
pub(crate) struct Host {
    sockets: Mutex<Vec<(String, BTreeSet<String>)>>,
    log: Mutex<Vec<String>>,
    missed: Mutex<Vec<Option<String>>>,
    /// Sinks of pending acknowledgement requests, which recipients hold weakly.
    pub(crate) sinks: Mutex<Vec<std::sync::Weak<dyn AnswerSink>>>,
    pub(crate) delivered: AtomicUsize,
    /// Bytes of each socket's data.
    pub(crate) data_len: AtomicUsize,
    /// Handlers that were started, and that ran to their end.
    pub(crate) handlers: [AtomicUsize; 2],
}

impl Host {
    pub(crate) fn with_sockets(sockets: &[(&str, &[&str])]) -> Arc<Self> {
        let host = Self::default();
        let rooms = |rooms: &[&str]| rooms.iter().map(|room| (*room).to_owned()).collect();
        *host.sockets.lock().unwrap() =
            sockets.iter().map(|(id, list)| ((*id).to_owned(), rooms(list))).collect();
        Arc::new(host)
    }

    /// Returns the entries since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(crate) fn take_missed(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.missed.lock().unwrap())
    }

    fn note(&self, entry: String) {
        self.log.lock().unwrap().push(entry);
    }

    fn matching(&self, target: &Target) -> Vec<(String, BTreeSet<String>)> {
        let is_in = |(id, rooms): &(String, BTreeSet<String>), room: &Room| {
            id == room.as_str() || rooms.contains(room.as_str())
        };
        let matches = |socket: &&(String, BTreeSet<String>)| {
            (target.rooms.is_empty() || target.rooms.iter().any(|room| is_in(socket, room)))
                && !target.except.iter().any(|room| is_in(socket, room))
        };
        self.sockets.lock().unwrap().iter().filter(matches).cloned().collect()
    }
}

#[derive(Debug)]
struct Control(String, usize);

impl MemberControl for Control {
    fn handshake(&self) -> ByteString {
        format!(r#"{{"url":"/{}"}}"#, self.0).into()
    }

    fn data(&self) -> ByteString {
        format!("\"{}\"", "x".repeat(self.1)).into()
    }

    fn disconnect(&self, _: bool) {}

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

fn names(rooms: &[Room]) -> String {
    rooms.iter().map(Room::as_str).collect::<Vec<_>>().join("+")
}

#[async_trait]
impl ClusterHost for Host {
    fn deliver(&self, target: &Target, event: &Event) -> usize {
        assert_ne!(event.name, "panic", "as requested");
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let offset = event.offset.as_ref().map(|offset| format!(" @{offset}")).unwrap_or_default();
        self.note(format!("{} {} {}{offset}", names(&target.rooms), event.name, event.args.json()));
        self.matching(target).len()
    }

    fn deliver_with_ack(&self, target: &Target, event: Event, answers: Arc<dyn AnswerSink>) {
        self.note(format!("{} {} with ack", names(&target.rooms), event.name));
        let recipients: Vec<_> =
            self.matching(target).into_iter().map(|(id, _)| SocketId::from(id)).collect();
        recipients.iter().for_each(|id| answers.requested(id));
        for id in recipients {
            match id.as_str() {
                "silent" => self.sinks.lock().unwrap().push(Arc::downgrade(&answers)),
                "deaf" => answers.unanswered(&id),
                _ => answers.answered(&id, Args::from_text(id.as_str().into())),
            }
        }
    }

    fn update(&self, target: &Target, change: &Membership) {
        self.note(format!("{} {change:?}", names(&target.rooms)));
    }

    fn disconnect(&self, target: &Target, close: bool) {
        self.note(format!("{} disconnect {close}", names(&target.rooms)));
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        let info = |(id, rooms): (String, BTreeSet<String>)| SocketInfo {
            key: None,
            id: id.as_str().into(),
            rooms: rooms.iter().map(Room::from).collect(),
            control: Some(Arc::new(Control(id, self.data_len.load(Ordering::Relaxed)))),
        };
        self.matching(target).into_iter().map(info).collect()
    }

    fn count(&self, target: &Target) -> usize {
        self.matching(target).len()
    }

    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args> {
        self.note(format!("{name} {}", args.json()));
        self.handlers[0].fetch_add(1, Ordering::Relaxed);
        let answer = match &**name {
            "later" => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Some(args)
            }
            "echo" => Some(args),
            "panic" => panic!("as requested"),
            _ => None,
        };
        self.handlers[1].fetch_add(1, Ordering::Relaxed);
        answer
    }

    fn missed(&self, room: Option<&Room>) {
        self.missed.lock().unwrap().push(room.map(|room| room.as_str().to_owned()));
    }
}
