//! Connection state recovery: eligibility, credentials and lookup of the retained session.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use roomcast_core::{CloseReason, MemberKey, Namespace, Outbox, Router, SocketId};
use roomcast_recovery::{Claim, Order, Owner, Recovery, Sequencer};
use serde::Deserialize;
use serde_json::Value;

use crate::host::config::Config;
use crate::host::limits::network;
use crate::session::shared::ClientKind;
use crate::util::clock;
use crate::util::ids;
use crate::web::handshake::Handshake;

/// Creates the recovery of a namespace if it is enabled.
pub(crate) fn recovery(
    name: &Namespace,
    router: &Arc<dyn Router>,
    config: &Config,
) -> Option<Arc<dyn Recovery>> {
    let recovery = config.recovery.clone()?;
    // Engine.IO and plain WebSocket detect a dead client within this time.
    let silence =
        config.timeouts.ping_interval.saturating_add(config.timeouts.ping_timeout).saturating_mul(2);
    let recovery = recovery.grace(silence.saturating_add(ROUNDING));
    let sequencer = Arc::new(Sequencer::new(router.clone(), recovery, &ids::epoch(), clock::now));
    Some(match &config.recovery_factory {
        Some(factory) => factory.make(name, sequencer),
        None => sequencer,
    })
}

/// Seconds that may pass before another thread queues an event in an outbox.
pub(crate) const EMIT_SLACK: u32 = 1;
/// Maximum error of the age of the last answered ping: the slack plus rounding to whole seconds.
const ROUNDING: Duration = Duration::from_secs(EMIT_SLACK as u64 + 1);

/// Recovery state of a socket, if recovery is enabled.
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) retainer: Arc<dyn Recovery>,
    /// Bearer token for recovery: any client that presents it takes over the session.
    pub(crate) secret: ByteString,
    /// Whether this socket restored a retained session.
    pub(crate) recovered: bool,
}

/// Returns the owner to which the retained state of a client is accounted.
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

/// Returns the order of the CONNECT answer and the replay, or `None` if this kind has no recovery.
pub(crate) fn order(kind: ClientKind) -> Option<Order> {
    match kind {
        ClientKind::SocketIo => Some(Order::MissedFirst),
        ClientKind::Json => Some(Order::WelcomeFirst),
        ClientKind::EngineIo | ClientKind::Plain => None,
    }
}

/// Returns whether a session closed for this reason can be recovered.
///
/// As on Node, a disconnect by the application or by the client is final. Node treats closing a client's connection as
/// a server-side disconnect of each of its sockets.
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
            | CloseReason::TakenOver
    )
}

/// Recovery credentials that a client presents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RecoveryCredentials {
    secret: String,
    offset: Option<String>,
}

impl RecoveryCredentials {
    /// Returns the credentials that a client of this kind presented, if any.
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

    /// Returns the attached member whose token this is, if any.
    pub(crate) fn attached(&self, recovery: &dyn Recovery) -> Option<(MemberKey, SocketId)> {
        recovery.attached(&self.secret)
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

    /// Claims the retained session of the client; replays at most `limit` bytes.
    pub(crate) fn claim(&self, recovery: &Arc<dyn Recovery>, outbox: &Outbox, limit: usize) -> Claim {
        let budget = limit.saturating_sub(outbox.waiting().bytes);
        recovery.clone().claim(&self.secret, self.offset.as_deref(), budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_recovery_credentials() {
        let shown = |auth: &str| {
            RecoveryCredentials::in_auth(auth).map(|RecoveryCredentials { secret, offset }| (secret, offset))
        };
        assert_eq!(shown(r#"{"pid":"p","offset":"o","token":1}"#), Some(("p".into(), Some("o".into()))));
        // The client omits an absent offset.
        assert_eq!(shown(r#"{"pid":"p"}"#), Some(("p".into(), None)));
        assert_eq!(shown(r#"{"pid":"p","offset":null}"#), Some(("p".into(), None)));
        for auth in ["", "{}", r#"{"pid":1,"offset":"o"}"#, r#"{"pid":"p","offset":1}"#, r#"{"offset":"o"}"#]
        {
            assert_eq!(shown(auth), None, "{auth}");
        }
    }
}
