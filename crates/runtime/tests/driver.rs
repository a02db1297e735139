//! Tests the driver of a simple session on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{
    AckTable, ByteString, CloseReason, Event, FlushList, Frame, IntoArgs, Member, MemberKey, Message,
    Namespace, Overflow, PushOutcome, Room, Router, SocketId, Target, Transport,
};
use roomcast_plain::{Mode, PlainConfig, PlainSession};
use roomcast_rooms::Rooms;
use roomcast_runtime::{Driver, DriverConfig, Incoming, StallLimits, flush};
use roomcast_testkit::transport::{MemoryClient, MemoryTransport};
use tokio::time::{sleep, timeout};

/// Returns the driver of a new client in this mode, and the client, which takes `capacity` messages before it reads.
fn client(mode: Mode, capacity: usize, config: DriverConfig) -> (Driver, MemoryClient) {
    let list = FlushList::new();
    tokio::spawn(flush(list.clone()));
    let transport = MemoryTransport::default();
    let (exchange, client) = MemoryClient::connect(capacity);
    let connection = transport.open(exchange).expect("request for this transport");
    let session = PlainSession::new(mode, Arc::<PlainConfig>::default(), Namespace::main());
    (Driver::new(Box::new(session), connection, transport.name(), list, config), client)
}

/// Accepts every connect and echoes events until the client disconnects; returns the reason.
async fn echo(mut driver: Driver, mode: Mode) -> Option<CloseReason> {
    let mut closed = None;
    while let Some(incoming) = driver.next().await {
        match incoming {
            Incoming::Connect { namespace, .. } => {
                driver.accept(&namespace, SocketId::from("a"), || {}).expect("pending request");
            }
            Incoming::Event(event) => {
                if let Some(id) = event.ack {
                    driver
                        .answer(mode.codec().as_ref(), &event.namespace, id, &event.args)
                        .expect("JSON arguments");
                } else {
                    let event = Event::new(event.namespace, event.name, event.args);
                    driver.emit(mode.codec().as_ref(), &event).expect("JSON arguments");
                }
            }
            Incoming::Closed(reason) => closed = Some(reason),
            other => panic!("unexpected: {other:?}"),
        }
    }
    closed
}

fn text(message: Option<Message>) -> String {
    match message {
        Some(Message::Text(text)) => text.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn echoes_events_and_acknowledgements() {
    let (driver, mut client) = client(Mode::Json, 16, DriverConfig::new());
    let driver = tokio::spawn(echo(driver, Mode::Json));
    assert!(text(client.recv().await).contains("\"a\""), "welcome contains the id");
    client.send(r#"["say","hello"]"#);
    assert_eq!(text(client.recv().await), r#"["say","hello"]"#);
    client.send(r#"[{"ack":7},"ask",1,2]"#);
    assert_eq!(text(client.recv().await), r#"[{"re":7},1,2]"#);
    client.close();
    assert_eq!(driver.await.unwrap(), Some(CloseReason::TransportClose));
}

#[tokio::test(start_paused = true)]
async fn pings_and_keeps_silent_clients() {
    let (driver, client) = client(Mode::Plain, 16, DriverConfig::new());
    let driver = tokio::spawn(echo(driver, Mode::Plain));
    sleep(Duration::from_secs(600)).await;
    assert!(!driver.is_finished(), "client answers each ping");
    assert!(client.pings() >= 20, "{} pings in ten minutes", client.pings());
}

#[tokio::test(start_paused = true)]
async fn welcome_precedes_room_events() {
    let (mut driver, mut client) = client(Mode::Json, 16, DriverConfig::new());
    let rooms = Arc::new(Rooms::default());
    let Some(Incoming::Connect { namespace, .. }) = driver.next().await else { panic!("no connect request") };
    let member = Member {
        key: MemberKey::next(),
        id: SocketId::from("a"),
        codec: Mode::Json.codec(),
        outbox: driver.outbox().clone(),
        acks: Some(AckTable::default()),
        control: None,
    };
    let key = driver.accept(&namespace, member.id.clone(), || rooms.attach(member)).expect("pending request");
    rooms.join(key, &Room::from("red"));
    let target = Target { rooms: vec![Room::from("red")], ..Target::default() };
    let event = Event::new(namespace, "news", "x".into_args().unwrap());
    assert_eq!(rooms.broadcast(&target, &event).flush_backlog().queued, 1);
    let driver = tokio::spawn(echo(driver, Mode::Json));
    assert!(!text(client.recv().await).contains("news"));
    assert_eq!(text(client.recv().await), r#"["news","x"]"#);
    drop(client);
    assert_eq!(driver.await.unwrap(), Some(CloseReason::TransportClose));
}

#[tokio::test(start_paused = true)]
async fn sends_reason_to_refused_client() {
    let (mut driver, mut client) = client(Mode::Json, 16, DriverConfig::new());
    let Some(Incoming::Connect { namespace, .. }) = driver.next().await else { panic!("no connect request") };
    driver.refuse(&namespace, "not \"you\"");
    let driver = tokio::spawn(echo(driver, Mode::Json));
    assert!(text(client.recv().await).contains(r#"not \"you\""#));
    assert_eq!(client.recv().await, None);
    assert_eq!(driver.await.unwrap(), Some(CloseReason::Refused));
}

#[tokio::test(start_paused = true)]
async fn closes_stalled_client_after_timeout() {
    let stall = StallLimits { timeout: Duration::from_secs(3), min_rate: 1024 };
    let config = DriverConfig::new().outbox(1024).stall(stall).close_timeout(Duration::from_secs(1));
    let (driver, _client) = client(Mode::Plain, 2, config);
    let outbox = driver.outbox().clone();
    let driver = tokio::spawn(echo(driver, Mode::Plain));
    sleep(Duration::from_millis(1)).await;
    #[expect(clippy::disallowed_methods, reason = "a test may read the paused clock")]
    let start = tokio::time::Instant::now();
    for _ in 0..64 {
        outbox.push(Frame::new("x".repeat(100)), roomcast_core::Delivery::Reliable, Overflow::Close);
    }
    assert_eq!(driver.await.unwrap(), Some(CloseReason::SlowConsumer));
    let took = start.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn keeps_slow_but_progressing_reader() {
    let stall = StallLimits { timeout: Duration::from_secs(3), min_rate: 100 };
    let (driver, mut client) = client(Mode::Plain, 2, DriverConfig::new().outbox(1024).stall(stall));
    let outbox = driver.outbox().clone();
    let driver = tokio::spawn(echo(driver, Mode::Plain));
    sleep(Duration::from_millis(1)).await;
    for _ in 0..64 {
        outbox.push(Frame::new("x".repeat(1000)), roomcast_core::Delivery::Reliable, Overflow::Close);
    }
    for _ in 0..64 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(text(client.recv().await).len(), 1000);
    }
    assert!(!driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn delivers_frames_queued_before_close() {
    let (mut driver, mut client) = client(Mode::Plain, 64, DriverConfig::new());
    let Some(Incoming::Connect { namespace, .. }) = driver.next().await else { panic!("no connect request") };
    driver.accept(&namespace, SocketId::from("a"), || {}).expect("pending request");
    for number in 0..10 {
        let event = Event::new(Namespace::main(), "message", number.to_string().into_args().unwrap());
        assert_eq!(driver.emit(Mode::Plain.codec().as_ref(), &event), Ok(PushOutcome::Queued));
    }
    driver.close(CloseReason::ServerShutdown);
    let driver = tokio::spawn(echo(driver, Mode::Plain));
    for number in 0..10 {
        assert_eq!(text(client.recv().await), number.to_string());
    }
    assert_eq!(client.recv().await, None);
    assert_eq!(driver.await.unwrap(), Some(CloseReason::ServerShutdown));
}

#[tokio::test(start_paused = true)]
async fn does_not_attach_to_ended_session() {
    let (mut driver, client) = client(Mode::Plain, 16, DriverConfig::new());
    let Some(Incoming::Connect { namespace, .. }) = driver.next().await else { panic!("no connect request") };
    drop(client);
    assert!(matches!(driver.next().await, Some(Incoming::Closed(CloseReason::TransportClose))));
    assert_eq!(driver.accept(&namespace, SocketId::from("a"), || panic!("attached")), None::<()>);
    assert!(driver.next().await.is_none());
    assert!(driver.next().await.is_none(), "stays ended");
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_lose_nothing() {
    let (mut driver, client) = client(Mode::Plain, 1024, DriverConfig::new());
    let Some(Incoming::Connect { namespace, .. }) = driver.next().await else { panic!("no connect request") };
    driver.accept(&namespace, SocketId::from("a"), || {}).expect("pending request");
    let mut heard = Vec::new();
    for number in 0..600 {
        client.send(ByteString::from(number.to_string()));
    }
    while heard.len() < 600 {
        if let Ok(Some(Incoming::Event(event))) = timeout(Duration::ZERO, driver.next()).await {
            heard.push(event.args.as_text().map(ToString::to_string).unwrap_or_default());
        }
    }
    assert!(heard.iter().enumerate().all(|(number, text)| *text == number.to_string()));
}

#[tokio::test(start_paused = true)]
async fn dropped_drivers_close_their_outbox() {
    let (mut driver, client) = client(Mode::Plain, 16, DriverConfig::new());
    let outbox = driver.outbox().clone();
    let _ = driver.next().await;
    drop(driver);
    assert_eq!(outbox.closed(), Some(CloseReason::ServerShutdown));
    assert!(client.is_closed());
}
