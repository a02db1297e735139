//! Transports, times and messages shared by the session cases.

use std::time::Duration;

use roomcast_core::TransportName;

pub(super) const WEBSOCKET: TransportName = TransportName("websocket");
pub(super) const POLLING: TransportName = TransportName("polling");

/// Longer than the heartbeat timeout of any session.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Client messages of every protocol, and invalid ones.
pub(super) const TEXTS: [&str; 32] = [
    "2probe",
    "3",
    "5",
    "6",
    "0",
    "4hello",
    "40",
    "40/chat,{\"token\":1}",
    "41",
    "41/chat,",
    "42[\"x\"]",
    "42/chat,7[\"x\",1]",
    "431[]",
    "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
    "452-/chat,[\"x\"]",
    "461-3[{\"_placeholder\":true,\"num\":0}]",
    "[\"x\",1]",
    "[{\"ack\":7},\"x\"]",
    "[{\"re\":7},1]",
    "[{\"binary\":1},\"x\",{\"_placeholder\":true,\"num\":0}]",
    "[{}]",
    "hello",
    "1",
    "2",
    "",
    "é",
    "44",
    "4",
    "42{}",
    "450-[\"x\"]",
    "{\"not\":\"an array\"}",
    "[",
];
