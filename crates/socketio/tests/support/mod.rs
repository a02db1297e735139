//! A session configured like that of a server with two transports.

use std::sync::Arc;

use roomcast_core::{Capabilities, Sid, TransportName};
use roomcast_engine::{EngineConfig, OpenPacket, Version};
use roomcast_socketio::{SocketIoConfig, SocketIoSession};

pub(crate) const POLLING: TransportName = TransportName("polling");
pub(crate) const WEBSOCKET: TransportName = TransportName("websocket");

pub(crate) fn session() -> SocketIoSession {
    let polling = Capabilities { begins: true, upgrades_from: true, upgrades_to: false, polled: true };
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    let engine = EngineConfig::default().transports([(POLLING, polling), (WEBSOCKET, websocket)]);
    let config = SocketIoConfig::new().engine(Arc::new(engine));
    SocketIoSession::new(Arc::new(config), OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 })
}
