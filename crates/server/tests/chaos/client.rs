//! In-memory clients that never block: polling, on a WebSocket stand-in, or upgrading between the two.
//!
//! The clients of [`roomcast_testkit::socket`] are on real sockets; these advance only when the test polls them, so that
//! the clock can be paused and a seed can be replayed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use roomcast_core::{Bytes, Message};
use roomcast_server::Io;
use roomcast_testkit::transport::MemoryClient;
use tower_service::Service;

/// Messages that a client buffers before it must read.
const CAPACITY: usize = 10_000;
const SEPARATOR: &str = "\u{1e}";

/// Request in progress; dropping it disconnects the client.
struct Call(Pin<Box<dyn Future<Output = (StatusCode, String)>>>);

impl Call {
    fn new(io: &Io, request: Request<Full<Bytes>>) -> Self {
        let mut service = io.service();
        Self(Box::pin(async move {
            let response = service.call(request).await.unwrap_or_else(|never| match never {});
            let status = response.status();
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            (status, String::from_utf8_lossy(&body).into_owned())
        }))
    }

    fn poll(&mut self) -> Option<(StatusCode, String)> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answered) => Some(answered),
            Poll::Pending => None,
        }
    }
}

/// Connection of a client, or several that carry one session.
pub(crate) struct Client {
    io: Io,
    number: usize,
    sid: Option<String>,
    memory: Option<MemoryClient>,
    opening: Option<Call>,
    probe: Option<MemoryClient>,
    /// The probe has succeeded, and the client waits for its pending requests.
    pausing: bool,
    get: Option<Call>,
    post: Option<Call>,
    unsent: VecDeque<String>,
    /// Reads nothing and answers nothing.
    pub(crate) silent: bool,
    /// Holds back answers to pings.
    pub(crate) holds_pongs: bool,
    pongs: usize,
    /// Packets of Socket.IO.
    pub(crate) heard: VecDeque<String>,
    pub(crate) ended: bool,
}

impl Client {
    pub(crate) fn connect(io: &Io, number: usize, polls: bool) -> Self {
        let mut client = Self {
            io: io.clone(),
            number,
            sid: None,
            memory: None,
            opening: None,
            probe: None,
            pausing: false,
            get: None,
            post: None,
            unsent: VecDeque::new(),
            silent: false,
            holds_pongs: false,
            pongs: 0,
            heard: VecDeque::new(),
            ended: false,
        };
        if polls {
            client.get = Some(client.request(Method::GET, String::new()));
        } else {
            client.memory = Some(client.dial());
        }
        client.pump();
        client
    }

    pub(crate) fn is_polling(&self) -> bool {
        self.memory.is_none()
    }

    fn target(&self, transport: &str) -> String {
        let sid = self.sid.as_ref().map(|sid| format!("&sid={sid}")).unwrap_or_default();
        format!("/socket.io/?EIO=4&transport={transport}&c={}{sid}", self.number)
    }

    fn request(&self, method: Method, body: String) -> Call {
        let request = Request::builder().method(method).uri(self.target("polling"));
        Call::new(&self.io, request.body(Full::from(body)).expect("a request"))
    }

    fn dial(&mut self) -> MemoryClient {
        let (exchange, client) = MemoryClient::connect(CAPACITY);
        let request = Request::get(self.target("memory")).header("upgrade", "websocket");
        let mut request = request.header("connection", "upgrade").body(Full::default()).expect("a request");
        request.extensions_mut().extend(exchange.request.extensions.clone());
        let upgrade = hyper::upgrade::on(Request::new(()));
        request.extensions_mut().insert(upgrade);
        self.opening = Some(Call::new(&self.io, request));
        client
    }

    /// Starts an upgrade if the client polls.
    pub(crate) fn upgrade(&mut self) -> bool {
        let may = self.is_polling() && self.sid.is_some() && self.probe.is_none() && self.opening.is_none();
        if may && !self.silent && !self.ended {
            let probe = self.dial();
            probe.send("2probe");
            self.probe = Some(probe);
        }
        self.probe.is_some()
    }

    /// Sends Engine.IO packets in one write.
    pub(crate) fn send(&mut self, packets: &[String]) {
        if self.ended {
            return;
        }
        match &self.memory {
            Some(memory) => packets.iter().for_each(|packet| memory.send(packet.clone())),
            None => self.unsent.extend(packets.iter().cloned()),
        }
    }

    /// Sends the end of the stream.
    pub(crate) fn close(&mut self) {
        match self.memory.take() {
            Some(memory) => {
                memory.close();
                // Dropped after its close was sent.
                drop(memory);
                self.ended = true;
            }
            None => self.reset(),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.memory = None;
        self.probe = None;
        self.opening = None;
        self.get = None;
        self.post = None;
        self.ended = true;
    }

    /// Breaks the probe; the client keeps polling.
    pub(crate) fn lose_probe(&mut self) -> bool {
        let lost = self.probe.take().is_some();
        self.opening = None;
        self.pausing = false;
        lost
    }

    pub(crate) fn release_pongs(&mut self) {
        self.holds_pongs = false;
        for _ in 0..std::mem::take(&mut self.pongs) {
            self.send(&["3".into()]);
        }
        if self.is_polling() {
            self.post_next();
        }
    }

    fn packet(&mut self, packet: &str) {
        match packet.split_at_checked(1) {
            Some(("0", rest)) => {
                let open: serde_json::Value = serde_json::from_str(rest).expect("JSON");
                self.sid = open["sid"].as_str().map(str::to_owned);
            }
            Some(("1", _)) => self.ended = true,
            Some(("2", _)) if self.holds_pongs => self.pongs += 1,
            Some(("2", _)) => self.send(&["3".into()]),
            Some(("4", rest)) => self.heard.push_back(rest.to_owned()),
            Some(("6", _)) => {}
            other => panic!("the server sent {other:?}"),
        }
    }

    fn post_next(&mut self) {
        if self.post.is_none() && !self.unsent.is_empty() && !self.pausing && self.sid.is_some() {
            let body: Vec<String> = std::mem::take(&mut self.unsent).into();
            let mut post = self.request(Method::POST, body.join(SEPARATOR));
            if post.poll().is_none() {
                self.post = Some(post);
            }
        }
    }

    /// Reads arrived messages and advances pending requests.
    pub(crate) fn pump(&mut self) {
        if self.silent || self.ended {
            return;
        }
        if self.opening.as_mut().is_some_and(|opening| opening.poll().is_some()) {
            self.opening = None;
        }
        if let Some(mut memory) = self.memory.take() {
            let mut messages = Vec::new();
            while let Some(Message::Text(text)) = memory.try_recv() {
                messages.push(text);
            }
            let closed = memory.is_closed();
            self.memory = Some(memory);
            messages.iter().for_each(|message| self.packet(message));
            self.ended |= closed;
            return;
        }
        if let Some((status, body)) = self.get.as_mut().and_then(Call::poll) {
            self.get = None;
            if status == StatusCode::OK {
                body.split(SEPARATOR).for_each(|packet| self.packet(packet));
            } else {
                self.ended = true;
            }
        }
        if let Some((status, _)) = self.post.as_mut().and_then(Call::poll) {
            self.post = None;
            self.ended |= status != StatusCode::OK;
        }
        if self.ended {
            return;
        }
        if let Some(probe) = &mut self.probe {
            match probe.try_recv() {
                Some(Message::Text(text)) if &*text == "3probe" => self.pausing = true,
                Some(other) => panic!("the probe heard {other:?}"),
                None if probe.is_closed() => _ = self.lose_probe(),
                None => {}
            }
        }
        if self.pausing && self.get.is_none() && self.post.is_none() {
            let probe = self.probe.take().expect("it has proven itself");
            probe.send("5");
            self.unsent.drain(..).for_each(|packet| probe.send(packet));
            self.memory = Some(probe);
            self.pausing = false;
            return;
        }
        if self.get.is_none() && !self.pausing && self.sid.is_some() {
            let mut get = self.request(Method::GET, String::new());
            match get.poll() {
                None => self.get = Some(get),
                Some((StatusCode::OK, body)) => body.split(SEPARATOR).for_each(|packet| self.packet(packet)),
                Some(_) => self.ended = true,
            }
        }
        self.post_next();
    }
}
