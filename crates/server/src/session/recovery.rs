//! Connection state recovery: eligible clients and their restored state

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

/// Returns the sequencer of a namespace if recovery is on.
pub(crate) fn sequencer(router: &Arc<dyn Router>, config: &Config) -> Option<Arc<Sequencer>> {
    let recovery = config.recovery.clone()?;
    // Engine.IO and plain WebSocket detect a dead client within this time.
    let silence =
        config.timeouts.ping_interval.saturating_add(config.timeouts.ping_timeout).saturating_mul(2);
    let recovery = recovery.grace(silence.saturating_add(ROUNDING));
    Some(Arc::new(Sequencer::new(router.clone(), recovery, &ids::epoch(), clock::now)))
}

/// Maximum seconds between the time of an event and its queueing in an outbox on another thread
pub(crate) const EMIT_SLACK: u32 = 1;
/// Margin for the time of the last answered ping: the slack, and the fraction of a second
const ROUNDING: Duration = Duration::from_secs(EMIT_SLACK as u64 + 1);

/// Recovery state of a socket, if recovery is on
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) sequencer: Arc<Sequencer>,
    /// Recovery token; a secret that authenticates the client
    pub(crate) secret: ByteString,
    /// Whether its state was recovered
    pub(crate) recovered: bool,
}

/// Returns the owner of the state retained for a client.
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

/// Returns when a client of this kind gets its connect packet during replay; `None` if it cannot recover.
pub(crate) fn order(kind: ClientKind) -> Option<Order> {
    match kind {
        ClientKind::SocketIo => Some(Order::MissedFirst),
        ClientKind::Json => Some(Order::WelcomeFirst),
        ClientKind::EngineIo | ClientKind::Plain => None,
    }
}

/// Returns whether a client that disconnected for this reason may recover.
///
/// As on Node, disconnects by the application or by the client itself are final. Node treats closing a client's
/// connection as a server-side disconnect of each of its sockets.
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

/// Recovery credentials of a client
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    secret: String,
    offset: Option<String>,
}

impl Shown {
    /// Returns the recovery credentials sent by a client of this kind, if any.
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

    /// Looks up the retained session of the client; replays at most `limit` bytes.
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
        // The client omits missing values.
        assert_eq!(shown(r#"{"pid":"p"}"#), Some(("p".into(), None)));
        assert_eq!(shown(r#"{"pid":"p","offset":null}"#), Some(("p".into(), None)));
        for auth in ["", "{}", r#"{"pid":1,"offset":"o"}"#, r#"{"pid":"p","offset":1}"#, r#"{"offset":"o"}"#]
        {
            assert_eq!(shown(auth), None, "{auth}");
        }
    }
}
