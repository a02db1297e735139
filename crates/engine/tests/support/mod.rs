//! A session configured like that of a server with two transports.

use std::sync::Arc;

use roomcast_core::{Capabilities, Sid, TransportName};
use roomcast_engine::{EngineConfig, EngineSession, OpenPacket, Version};

pub(crate) const POLLING: TransportName = TransportName("polling");
pub(crate) const WEBSOCKET: TransportName = TransportName("websocket");

pub(crate) fn session() -> EngineSession {
    let polling = Capabilities { begins: true, upgrades_from: true, upgrades_to: false, polled: true };
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    let config = EngineConfig::default().transports([(POLLING, polling), (WEBSOCKET, websocket)]);
    EngineSession::new(Arc::new(config), OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 })
}
