//! The rules that every transport must keep; see [`transport_conformance!`](crate::transport_conformance).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use roomcast_core::{CloseReason, Delivery, FlushList, Flusher, Frame, Message, Overflow, PushOutcome};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use super::{End, Oversized, Rig, TransportClient, TransportHarness};
use crate::ExchangeBuilder;
use crate::rng::SeededRng;

/// Generates a test for each rule that transports must keep, for one [`TransportHarness`].
///
/// A test file consists of a harness and `transport_conformance!(Harness);`. `tests/memory_conformance.rs` of this
/// crate is an example, for [`MemoryTransport`](super::MemoryTransport).
#[macro_export]
macro_rules! transport_conformance {
    ($harness:expr) => {
        $crate::transport_conformance! { @tests $harness;
            receives_messages_in_order
            sends_frames_in_order
            sends_and_receives_concurrently
            accepts_message_at_limit
            rejects_message_over_limit
            keeps_attachments_with_their_event
            sends_shared_frame_to_all
            sends_queued_frames_after_stall
            loses_nothing_to_slow_readers
            flushes_from_another_thread
            sends_queued_frames_before_close
            close_ends_client_wait
            detects_vanished_client
            returns_refused_exchange
            refuses_unsupported_request
        }
    };
    (@tests $harness:expr; $($test:ident)*) => {$(
        #[test]
        fn $test() {
            $crate::transport::conformance::$test($harness);
        }
    )*};
}

/// Client messages of any kind and size arrive unchanged and in order.
pub fn receives_messages_in_order<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let messages = assorted(H::MAX_MESSAGE / 2);
        for message in &messages {
            client.send(message.clone()).await;
        }
        for (at, message) in messages.iter().enumerate() {
            assert_eq!(rig.recv().await.as_ref(), Some(message), "message {at}");
        }
    });
}

/// Pushed messages of any kind and size arrive unchanged and in order.
pub fn sends_frames_in_order<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let messages = assorted(H::MAX_MESSAGE * 2);
        for message in &messages {
            assert_eq!(rig.push(message.clone()), PushOutcome::Queued);
        }
        for (at, message) in messages.iter().enumerate() {
            assert_eq!(client.recv().await.as_ref(), Some(message), "message {at}");
        }
        assert_silent(&mut client).await;
    });
}

/// Neither direction waits for the other.
pub fn sends_and_receives_concurrently<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        for round in 0..50 {
            rig.push(numbered(round, 10 * round));
            client.send(numbered(round, 7 * round)).await;
            if round % 3 == 0 {
                // Answers a message before it is read, as a handler would.
                assert_eq!(rig.recv().await, Some(numbered(round / 3, 7 * (round / 3))));
            }
        }
        for round in 0..50 {
            assert_eq!(client.recv().await, Some(numbered(round, 10 * round)));
        }
        for round in 17..50 {
            assert_eq!(rig.recv().await, Some(numbered(round, 7 * round)));
        }
    });
}

/// A message of exactly the limit is accepted.
pub fn accepts_message_at_limit<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let message = text(H::MAX_MESSAGE);
        client.send(message.clone()).await;
        assert_eq!(rig.recv().await, Some(message));
    });
}

/// A message one byte over the limit is refused and affects only its sender.
pub fn rejects_message_over_limit<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let (other, mut well_behaved) = open(&harness);
        client.send(numbered(1, 0)).await;
        assert_eq!(rig.recv().await, Some(numbered(1, 0)));
        client.send(text(H::MAX_MESSAGE + 1)).await;
        match harness.oversized() {
            Oversized::Refused => {
                client.send(numbered(2, 0)).await;
                assert_eq!(rig.recv().await, Some(numbered(2, 0)), "the connection continues");
            }
            Oversized::Ends(reason) => {
                assert_eq!(rig.recv().await, None, "no part of the message arrives");
                let end = rig.ended().await;
                assert!(matches!(&end, Some(End::Broken(error)) if error.reason() == reason), "{end:?}");
            }
        }
        well_behaved.send(numbered(3, 0)).await;
        assert_eq!(other.recv().await, Some(numbered(3, 0)));
        other.push(numbered(4, 0));
        assert_eq!(well_behaved.recv().await, Some(numbered(4, 0)));
    });
}

/// The messages of one frame are not interleaved with other frames.
pub fn keeps_attachments_with_their_event<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let mut expected = Vec::new();
        for at in 0..40 {
            let parts = vec![numbered(at, 20), binary(at * 31), binary(at % 3), text(5)];
            expected.extend(parts.clone());
            rig.push(Frame::from_messages(parts));
            let between = numbered(1000 + at, 3);
            expected.push(between.clone());
            rig.outbox.push_protocol(Frame::new(between));
        }
        for (at, message) in expected.iter().enumerate() {
            assert_eq!(client.recv().await.as_ref(), Some(message), "message {at}");
        }
    });
}

/// A frame pushed to several connections arrives at each, alone and among others.
pub fn sends_shared_frame_to_all<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let mut members: Vec<_> = (0..5).map(|_| open(&harness)).collect();
        let frames = [
            Frame::new(numbered(1, 100)),
            Frame::from_messages(vec![numbered(2, 0), binary(300)]),
            Frame::new(binary(50)),
        ];
        for (at, (rig, _)) in members.iter().enumerate() {
            if at % 2 == 0 {
                rig.push(numbered(0, at));
            }
            for frame in &frames {
                rig.push(frame.clone());
            }
        }
        for (at, (_, client)) in members.iter_mut().enumerate() {
            if at % 2 == 0 {
                assert_eq!(client.recv().await, Some(numbered(0, at)));
            }
            for message in frames.iter().flat_map(Frame::messages) {
                assert_eq!(client.recv().await.as_ref(), Some(message));
            }
        }
    });
}

/// Frames that the client cannot accept yet are queued and all arrive once it reads.
pub fn sends_queued_frames_after_stall<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let body = H::MAX_MESSAGE / 3;
        for at in 0..100 {
            assert_eq!(rig.push(numbered(at, body)), PushOutcome::Queued);
        }
        sleep(LONG).await;
        for at in 0..100 {
            assert_eq!(client.recv().await, Some(numbered(at, body)), "frame {at}");
        }
        assert_silent(&mut client).await;
        rig.push(numbered(100, 1));
        assert_eq!(client.recv().await, Some(numbered(100, 1)), "the connection continues");
    });
}

/// Pushes and reads of all sizes and timings lose, duplicate and reorder nothing.
pub fn loses_nothing_to_slow_readers<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        let mut rng = SeededRng::new(1);
        let sizes = [0, 1, 100, 1_000, H::MAX_MESSAGE / 2, H::MAX_MESSAGE - 30];
        let body = |at: usize| sizes[at * 7 % sizes.len()];
        let (mut pushed, mut read) = (0, 0);
        while read < 400 {
            for _ in 0..rng.below(12) {
                rig.push(numbered(pushed, body(pushed)));
                pushed += 1;
            }
            if rng.below(3) == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            for _ in 0..rng.below(12).min(pushed - read) {
                assert_eq!(client.recv().await, Some(numbered(read, body(read))), "frame {read}");
                read += 1;
            }
        }
        while read < pushed {
            assert_eq!(client.recv().await, Some(numbered(read, body(read))), "frame {read}");
            read += 1;
        }
        assert_silent(&mut client).await;
    });
}

/// The write half may be called from any thread while the connection is polled on its own.
pub fn flushes_from_another_thread<H: TransportHarness>(harness: H) {
    run_in(false, async move {
        let (rig, mut client) = open_with(&harness, false);
        let flusher = FlusherThread::start(rig.flush.clone());
        for at in 0..500 {
            rig.push(numbered(at, at % 50));
            if at % 5 == 4 {
                client.send(numbered(at, 9)).await;
                assert_eq!(rig.recv().await, Some(numbered(at, 9)));
                for at in at - 4..=at {
                    assert_eq!(client.recv().await, Some(numbered(at, at % 50)), "frame {at}");
                }
            }
        }
        drop(flusher);
    });
}

/// A close follows all frames queued before it.
pub fn sends_queued_frames_before_close<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        for at in 0..30 {
            rig.push(numbered(at, 2_000));
        }
        rig.close(CloseReason::ForcedServerClose);
        for at in 0..30 {
            assert_eq!(client.recv().await, Some(numbered(at, 2_000)), "frame {at}");
        }
        assert_eq!(client.recv().await, None);
        assert!(matches!(rig.ended().await, Some(End::ByServer)));
    });
}

/// A close ends the wait of a client that polls for messages.
pub fn close_ends_client_wait<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        rig.push(numbered(1, 0));
        assert_eq!(client.recv().await, Some(numbered(1, 0)));
        rig.close(CloseReason::ServerShutdown);
        assert_eq!(client.recv().await, None);
        assert!(matches!(rig.ended().await, Some(End::ByServer)));
        assert_eq!(
            rig.outbox.push(numbered(2, 0).into(), Delivery::Reliable, Overflow::Close),
            PushOutcome::Closed
        );
    });
}

/// A disconnected client does not remain a recipient.
pub fn detects_vanished_client<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (rig, mut client) = open(&harness);
        client.send(numbered(1, 0)).await;
        assert_eq!(rig.recv().await, Some(numbered(1, 0)));
        client.vanish().await;
        let end = rig.ended().await;
        let noticed = match &end {
            Some(End::Closed) => true,
            Some(End::Broken(error)) => {
                matches!(error.reason(), CloseReason::TransportClose | CloseReason::TransportError)
            }
            _ => false,
        };
        assert!(noticed, "{end:?}");
    });
}

/// A refused exchange is returned without a response.
pub fn returns_refused_exchange<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let (exchange, mut answer) = ExchangeBuilder::post("/").chunk("hello").build();
        let Err(refused) = harness.transport().open(exchange) else { panic!("a POST opened a connection") };
        assert!(answer.now().is_none(), "the transport must not answer");
        assert!(refused.rejection.status.is_client_error() || refused.rejection.status.is_server_error());
        refused.exchange.respond.send(refused.rejection.response()).expect("the client awaits the response");
        assert!(answer.await.is_some());
    });
}

/// A request unsupported by the connection is refused, and the connection continues.
pub fn refuses_unsupported_request<H: TransportHarness>(harness: H) {
    run(&harness.clone(), async move {
        let transport = harness.transport();
        let mut client = None;
        let mut requests = None;
        let connect = |handle: super::Requests| {
            requests = Some(handle.clone());
            let (exchange, made) = harness.connect(handle);
            client = Some(made);
            exchange
        };
        let rig = Rig::open(&*transport, connect, OUTBOX, true);
        let (Some(mut client), Some(requests)) = (client, requests) else {
            panic!("the rig connected above")
        };
        let (exchange, answer) = ExchangeBuilder::new(Method::PUT, "/").chunk("hello").build();
        requests.send(exchange).await;
        let answered = answer.await.expect("the request is answered");
        assert!(answered.status.is_client_error() || answered.status.is_server_error(), "{answered:?}");
        rig.push(numbered(1, 0));
        assert_eq!(client.recv().await, Some(numbered(1, 0)));
        client.send(numbered(2, 0)).await;
        assert_eq!(rig.recv().await, Some(numbered(2, 0)));
    });
}

/// Long enough for every spontaneous action to happen.
const LONG: Duration = Duration::from_millis(20);
/// Timeout of a hanging test.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any test pushes at once.
const OUTBOX: usize = 64 << 20;

fn run<H: TransportHarness>(harness: &H, test: impl Future<Output = ()>) {
    run_in(harness.virtual_time(), test);
}

fn run_in(virtual_time: bool, test: impl Future<Output = ()>) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(virtual_time).build().expect("runtime starts");
    let outcome = runtime.block_on(async { timeout(PATIENCE, test).await });
    assert!(outcome.is_ok(), "test timed out");
}

fn open<H: TransportHarness>(harness: &H) -> (Rig, H::Client) {
    open_with(harness, true)
}

fn open_with<H: TransportHarness>(harness: &H, flushes: bool) -> (Rig, H::Client) {
    let mut client = None;
    let connect = |requests| {
        let (exchange, made) = harness.connect(requests);
        client = Some(made);
        exchange
    };
    let rig = Rig::open(&*harness.transport(), connect, OUTBOX, flushes);
    (rig, client.expect("`Rig::open` connects"))
}

async fn assert_silent(client: &mut impl TransportClient) {
    let further = timeout(LONG, client.recv()).await;
    assert!(further.is_err(), "unexpected message: {further:?}");
}

/// Text that every transport can carry: it begins with a digit and has no control character.
///
/// Long-polling reserves the first byte of a packet and the separator for the protocol above.
fn text(len: usize) -> Message {
    let mut text = String::with_capacity(len + 4);
    text.extend(std::iter::once('4').take(len));
    while text.len() + 3 <= len {
        text.push(['e', 'ü', '€', 'x'][text.len() % 4]);
    }
    while text.len() < len {
        text.push('.');
    }
    text.into()
}

fn numbered(number: usize, body: usize) -> Message {
    format!("4{number}:{}", "x".repeat(body)).into()
}

fn binary(len: usize) -> Message {
    (0..len).map(|at| (at * 31 % 256) as u8).collect::<Bytes>().into()
}

/// Returns messages of both kinds, from zero to `most` bytes.
fn assorted(most: usize) -> Vec<Message> {
    let lens = [0, 1, 2, 3, 4, 125, 126, 127, 1_000, most / 3, most / 2];
    lens.into_iter().flat_map(|len| [text(len), binary(len)]).collect()
}

/// Thread that flushes a list until it is dropped.
struct FlusherThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FlusherThread {
    #[expect(clippy::disallowed_methods, reason = "the test flushes from another thread")]
    fn start(list: FlushList) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut flusher = Flusher::new(list);
            while !stopped.load(Ordering::Acquire) {
                match flusher.poll_ready(&mut Context::from_waker(&waker)) {
                    Poll::Ready(()) => flusher.write_all(),
                    Poll::Pending => std::thread::park(),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for FlusherThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_requested_length() {
        for len in [0, 1, 2, 3, 7, 100, 4097] {
            assert_eq!((text(len).len(), binary(len).len()), (len, len));
        }
    }
}
