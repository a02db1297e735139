//! Connection state recovery: who may come back, and what comes back with it

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use roomcast_core::{CloseReason, Outbox, Router, SocketId};
use roomcast_recovery::{Claim, Order, Owner, Refused, Sequencer};
use serde::Deserialize;
use serde_json::Value;

use crate::host::config::Config;
use crate::host::limits::network;
use crate::session::shared::ClientKind;
use crate::util::clock;
use crate::util::ids;
use crate::web::handshake::Handshake;

/// The sequencer of a namespace, if recovery is on
pub(crate) fn sequencer(router: &Arc<dyn Router>, config: &Config) -> Option<Arc<Sequencer>> {
    let recovery = config.recovery.clone()?;
    // Engine.IO and plain WebSocket detect a dead client within this time.
    let silence =
        config.timeouts.ping_interval.saturating_add(config.timeouts.ping_timeout).saturating_mul(2);
    let recovery = recovery.grace(silence.saturating_add(ROUNDING));
    Some(Arc::new(Sequencer::new(router.clone(), recovery, &ids::epoch(), clock::now)))
}

/// Seconds that may pass between the time of an event and its place in an outbox, on another thread.
pub(crate) const EMIT_SLACK: u32 = 1;
/// Time by which the last answered ping may seem older than it is: the slack, and the fraction of a second.
const ROUNDING: Duration = Duration::from_secs(EMIT_SLACK as u64 + 1);

/// What a socket has of recovery, where it is on
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) sequencer: Arc<Sequencer>,
    /// By this it may come back; whoever knows it can speak for the client
    pub(crate) secret: ByteString,
    /// It did come back, and has its state again
    pub(crate) recovered: bool,
}

/// To whom belongs what is kept for a client, or because of it.
pub(crate) fn owner(handshake: &Handshake, id: &SocketId) -> Owner {
    match handshake.address() {
        Some(address) => Owner::Address(network(address.ip())),
        None => {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            Owner::Client(hasher.finish())
        }
    }
}

/// Where in the catching up a client of this kind is told that it is in; `None` if it cannot come back
pub(crate) fn order(kind: ClientKind) -> Option<Order> {
    match kind {
        ClientKind::SocketIo => Some(Order::MissedFirst),
        ClientKind::Json => Some(Order::WelcomeFirst),
        ClientKind::EngineIo | ClientKind::Plain => None,
    }
}

/// Whether a client that went away for this reason may come back as who it was
///
/// As on Node, where what the application does to a client, and what the client says itself, is final. Closing the
/// connection of a client is to Node a disconnection of each of its sockets by the server.
pub(crate) fn is_recoverable(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::TransportClose
            | CloseReason::TransportError
            | CloseReason::MessageTooBig
            | CloseReason::PingTimeout
            | CloseReason::IdleTimeout
            | CloseReason::ForcedClose
            | CloseReason::SlowConsumer
            | CloseReason::OutboxFull
            | CloseReason::Overloaded
            | CloseReason::ServerShutdown
    )
}

/// What a client shows to get its state back
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    secret: String,
    offset: Option<String>,
}

impl Shown {
    /// What a client of this kind has shown, if anything
    pub(crate) fn by(kind: ClientKind, auth: &str, handshake: &Handshake) -> Option<Self> {
        match kind {
            ClientKind::SocketIo => Self::in_auth(auth),
            ClientKind::Json => {
                let secret = handshake.query_value("pid").filter(|secret| !secret.is_empty())?;
                let offset = handshake.query_value("offset").filter(|offset| !offset.is_empty());
                Some(Self { secret, offset })
            }
            ClientKind::EngineIo | ClientKind::Plain => None,
        }
    }

    fn in_auth(auth: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Auth {
            pid: Option<Value>,
            offset: Option<Value>,
        }

        let Auth { pid, offset } = serde_json::from_str(auth).ok()?;
        let Some(Value::String(secret)) = pid else { return None };
        match offset {
            Some(Value::String(offset)) => Some(Self { secret, offset: Some(offset) }),
            None | Some(Value::Null) => Some(Self { secret, offset: None }),
            Some(_) => None,
        }
    }

    /// Looks for what was kept for the client; no more than `limit` bytes are replayed
    pub(crate) fn claim(
        &self,
        sequencer: &Arc<Sequencer>,
        outbox: &Outbox,
        limit: usize,
    ) -> Result<Claim, Refused> {
        let budget = limit.saturating_sub(outbox.waiting().bytes);
        sequencer.claim(&self.secret, self.offset.as_deref(), budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_recovery_credentials_of_clients() {
        let shown = |auth: &str| Shown::in_auth(auth).map(|Shown { secret, offset }| (secret, offset));
        assert_eq!(shown(r#"{"pid":"p","offset":"o","token":1}"#), Some(("p".into(), Some("o".into()))));
        // The client leaves out what it has not.
        assert_eq!(shown(r#"{"pid":"p"}"#), Some(("p".into(), None)));
        assert_eq!(shown(r#"{"pid":"p","offset":null}"#), Some(("p".into(), None)));
        for auth in ["", "{}", r#"{"pid":1,"offset":"o"}"#, r#"{"pid":"p","offset":1}"#, r#"{"offset":"o"}"#]
        {
            assert_eq!(shown(auth), None, "{auth}");
        }
    }
}
