//! Store of sessions in Redis, which Node servers share.

mod script;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use roomcast_core::{Args, Room};
use roomcast_node_adapter::{CodecLimits, decode_session, encode_session, session_key};
use roomcast_recovery::{
    Claimed, Confirmed, Epoch, NodeId, SessionId, SessionStore, SessionWrite, StoreError, StoredSession,
};
use serde::{Deserialize, Serialize};

use crate::config::RedisConfig;
use crate::connection::{CallError, Caller, Commands, InvalidReply, Reply};

/// Sessions in Redis, in the form of Node's `@socket.io/redis-streams-adapter`.
///
/// A session that this store wrote can be claimed by a Node server, and the other way around. Each has the key
/// `sio:session:` with the client's secret. A second key with the suffix `:record`, which Redis Cluster keeps in the
/// same slot, has the holder, the epoch, and what Node's form lacks. Both change in one step, by scripts.
///
/// The store is to be read by [`StoredSessions`](roomcast_recovery::StoredSessions) in a cluster with a shared log of
/// events, such as Redis streams.
///
/// # Claims by Node servers
///
/// A Node server claims a session by removing it. The holder notices that with its next write, and drops its socket. A
/// Node server does not notify the holder, and stores a session only when its client disconnects: the clients of a
/// killed Node server are not recovered.
///
/// # Claims by other servers
///
/// The former holder is notified through a channel, and the claim waits until it has dropped its socket, or until its
/// lease has run out, which it renews in a key. So a claim does not wait for a holder that was killed, or has been frozen
/// for longer than its lease, 2 seconds by default. A holder that was frozen confirms its sessions first when it wakes
/// up.
///
/// # Time to live
///
/// Redis drops the session of a disconnected client after [`max_disconnection`](Self::max_disconnection), and one of a
/// connected client after [`max_silence`](Self::max_silence): the queue of sessions writes all of them more often.
/// Sessions must not be evicted before: use `maxmemory-policy noeviction`, or evict other keys only. A session whose
/// key was evicted without its record counts as claimed by a Node server.
///
/// # Outages
///
/// Calls fail while Redis is away. Sessions are then written again in their latest state, and a client that returns
/// meanwhile starts a new session. Claims that were acknowledged can be lost if a replica that had not received them
/// takes over, or Redis restarts from a file without them: a client could then be recovered from an older state.
///
/// # Permissions
///
/// A user with access rules needs:
///
/// ```text
/// ~sio:session:* ~{sio:session:* &sio:session:* +evalsha +script|load +get +set +del +exists +hmget +hset +pexpire
///     +publish +subscribe +ping +client|id +client|kill
/// ```
pub struct RedisSessionStore {
    writes: Caller,
    claims: Caller,
    /// Subscription of the node to its channel, once it is known.
    news: Mutex<Option<Arc<Caller>>>,
    config: Arc<RedisConfig>,
    prefix: String,
    max_disconnection: Duration,
    max_silence: Duration,
    limits: CodecLimits,
    scripts: Scripts,
}

/// Digests by which Redis knows the scripts.
#[derive(Debug)]
struct Scripts {
    write: String,
    remove: String,
    claim: String,
    confirm: String,
}

/// State that is missing in Node's form of a session.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Rest {
    #[serde(rename = "c")]
    connected: bool,
    #[serde(rename = "o")]
    offset: String,
    #[serde(rename = "s")]
    handshake: String,
    #[serde(rename = "k", skip_serializing_if = "String::is_empty")]
    handled: String,
    /// Data that Node's form cannot have.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

/// Time of a call. The queue of sessions has its own limit.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Longest time for which a claim waits for the former holder.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// Time for which Redis keeps the release of a session.
const RELEASE_TTL: &[u8] = b"5000";

impl RedisSessionStore {
    /// Creates a store on a Redis. Connections are opened when they are needed.
    ///
    /// The prefix of the channels in `config` has no effect.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        let config = Arc::new(config);
        let mut setup = Commands::default();
        for script in [script::WRITE, script::REMOVE, script::CLAIM, script::CONFIRM] {
            setup.push("SCRIPT", &[b"LOAD", script.as_bytes()]);
        }
        let digest = |script: &str| redis::Script::new(script).get_hash().to_owned();
        let scripts = Scripts {
            write: digest(script::WRITE),
            remove: digest(script::REMOVE),
            claim: digest(script::CLAIM),
            confirm: digest(script::CONFIRM),
        };
        Self {
            writes: Caller::new(config.clone(), setup.clone()),
            claims: Caller::new(config.clone(), setup),
            news: Mutex::default(),
            config,
            prefix: "sio:session:".to_owned(),
            max_disconnection: Duration::from_secs(120),
            max_silence: Duration::from_secs(86_400),
            limits: CodecLimits::default(),
            scripts,
        }
    }

    /// Sets the first part of the keys, Node's option `sessionKeyPrefix`. Default: `sio:session:`.
    #[must_use]
    pub fn key_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Sets how long the session of a disconnected client is kept. Default: 2 minutes, as on Node.
    ///
    /// Set it to that of the recovery, and to `maxDisconnectionDuration` of Node servers.
    #[must_use]
    pub fn max_disconnection(mut self, time: Duration) -> Self {
        self.max_disconnection = time;
        self
    }

    /// Sets how long the session of a connected client is kept after it was written. Default: a day.
    ///
    /// It has to exceed the [interval](roomcast_recovery::StoreConfig::refresh) at which all sessions are written
    /// again. The sessions of a node that died are kept for this time, too.
    #[must_use]
    pub fn max_silence(mut self, time: Duration) -> Self {
        self.max_silence = time;
        self
    }

    fn keys(&self, secret: &str) -> [String; 2] {
        let key = session_key(&self.prefix, secret);
        // The part in braces determines the slot in a Redis Cluster; a prefix with braces determines it already.
        let record = if key.contains('{') { format!("{key}:record") } else { format!("{{{key}}}:record") };
        [key.to_string(), record]
    }

    fn channel(&self, node: &NodeId) -> String {
        format!("{}claimed:{}", self.prefix, node.0)
    }

    /// Returns the key of a node's lease.
    fn lease(&self, node: &NodeId) -> String {
        format!("{}lease:{}", self.prefix, node.0)
    }

    /// Returns the key that exists unless Redis has lost its content since the last write of the node.
    fn witness(&self, node: &NodeId) -> String {
        format!("{}node:{}", self.prefix, node.0)
    }

    fn push_script(commands: &mut Commands, digest: &str, keys: &[String; 2], args: &[&[u8]]) {
        let mut all = vec![digest.as_bytes(), b"2", keys[0].as_bytes(), keys[1].as_bytes()];
        all.extend(args);
        commands.push("EVALSHA", &all);
    }

    fn time_to_live(&self, connected: bool) -> String {
        let time = if connected { self.max_silence } else { self.max_disconnection };
        time.as_millis().max(1).to_string()
    }

    /// Waits until the former holder has released a session, or its lease has run out.
    async fn wait_for_release(&self, key: &str, epoch: Epoch, holder: &NodeId) -> Result<(), CallError> {
        let mut get = Commands::default();
        get.push("GET", &[released(key).as_bytes()]);
        get.push("EXISTS", &[self.lease(holder).as_bytes()]);
        let wait = async {
            let mut pause = Duration::from_millis(1);
            loop {
                let mut replies = [None, None];
                let mut next = replies.iter_mut();
                let read = |reply: Reply<'_>| {
                    *next.next().ok_or(InvalidReply)? = integer(&reply);
                    Ok(())
                };
                self.claims.call(&get, CALL_LIMIT, read).await?;
                let [released, leases] = replies;
                if released.is_some_and(|released| released >= epoch.0) || leases == Some(0) {
                    return Ok(());
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        };
        // After the limit, the holder does not respond, and cannot write the session any more.
        tokio::time::timeout(RELEASE_LIMIT, wait).await.unwrap_or(Ok(()))
    }

    fn decode(&self, value: &[u8], rest: &[u8]) -> Result<StoredSession, StoreError> {
        let text = std::str::from_utf8(value).map_err(|_| unreadable())?;
        let read = decode_session(text, &self.limits).map_err(|_| unreadable())?;
        let rest: Rest = serde_json::from_slice(rest).unwrap_or_default();
        let own = Room::from(&read.id);
        let mut session = StoredSession::new(read.id.clone());
        session.data = match rest.data {
            Some(data) => data.into(),
            None => read.data_json().map_err(|_| unreadable())?,
        };
        session.rooms = read.rooms.into_iter().filter(|room| *room != own).collect();
        session.handshake = rest.handshake.into();
        session.handled = rest.handled.into();
        session.connected = rest.connected;
        session.offset = rest.offset.into();
        Ok(session)
    }
}

/// Returns the key that has the epoch up to which a session was released.
fn released(key: &str) -> String {
    format!("{key}:released")
}

fn unreadable() -> StoreError {
    StoreError("session is not readable".to_owned())
}

fn failed(error: &CallError) -> StoreError {
    StoreError(error.to_string())
}

/// Returns a number, also if it is given as text.
fn integer(reply: &Reply<'_>) -> Option<u64> {
    match reply {
        Reply::Integer(number) => u64::try_from(*number).ok(),
        Reply::Bulk(Some(text)) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

#[async_trait]
impl SessionStore for RedisSessionStore {
    async fn write(&self, node: &NodeId, batch: &[SessionWrite]) -> Result<Vec<SessionId>, StoreError> {
        let mut commands = Commands::default();
        for SessionWrite { id, epoch, session } in batch {
            let own = Room::from(&session.socket);
            let rooms = std::iter::once(own).chain(session.rooms.iter().cloned()).collect();
            let none = || Args::from_validated(ByteString::from_static("{}"), Vec::new());
            let data = Some(&session.data).filter(|data| !data.is_empty());
            let mut node_form = roomcast_node_adapter::StoredSession {
                id: session.socket.clone(),
                secret: id.secret.clone(),
                rooms,
                data: data.map_or_else(none, |data| Args::from_validated(data.clone(), Vec::new())),
            };
            let mut rest = Rest {
                connected: session.connected,
                offset: session.offset.to_string(),
                handshake: session.handshake.to_string(),
                handled: session.handled.to_string(),
                data: None,
            };
            let encoded = encode_session(&node_form).or_else(|_| {
                // Node cannot read data that is nested so deeply.
                rest.data = Some(session.data.to_string());
                node_form.data = none();
                encode_session(&node_form)
            });
            let value = encoded.map_err(|error| StoreError(error.to_string()))?;
            let rest = serde_json::to_string(&rest).map_err(|error| StoreError(error.to_string()))?;
            let (epoch, time_to_live) = (epoch.0.to_string(), self.time_to_live(session.connected));
            let namespace = id.namespace.as_str();
            let args = [&*node.0, &*epoch, namespace, &*value, &*rest, &*time_to_live].map(str::as_bytes);
            Self::push_script(&mut commands, &self.scripts.write, &self.keys(&id.secret), &args);
        }
        let (witness, time_to_live) = (self.witness(node), self.time_to_live(true));
        commands.push("SET", &[witness.as_bytes(), b"1", b"PX", time_to_live.as_bytes()]);
        let (mut refused, mut written) = (Vec::new(), batch.iter());
        let read = |reply: Reply<'_>| {
            let Some(write) = written.next() else { return Ok(()) };
            if integer(&reply) == Some(0) {
                refused.push(write.id.clone());
            }
            Ok(())
        };
        self.writes.call(&commands, CALL_LIMIT, read).await.map_err(|error| failed(&error))?;
        Ok(refused)
    }

    async fn remove(&self, node: &NodeId, batch: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
        let mut commands = Commands::default();
        for (id, epoch) in batch {
            let epoch = epoch.0.to_string();
            let args = [&*node.0, &*epoch].map(str::as_bytes);
            Self::push_script(&mut commands, &self.scripts.remove, &self.keys(&id.secret), &args);
        }
        self.writes.call(&commands, CALL_LIMIT, |_| Ok(())).await.map_err(|error| failed(&error))
    }

    async fn claim(&self, node: &NodeId, id: &SessionId) -> Result<Option<Claimed>, StoreError> {
        let keys = self.keys(&id.secret);
        let channels = self.channel(&NodeId(ByteString::new()));
        let time_to_live = self.time_to_live(false);
        let args = [
            node.0.as_bytes(),
            id.namespace.as_str().as_bytes(),
            time_to_live.as_bytes(),
            channels.as_bytes(),
            id.secret.as_bytes(),
        ];
        let mut commands = Commands::default();
        Self::push_script(&mut commands, &self.scripts.claim, &keys, &args);
        let mut found = None;
        let read = |reply: Reply<'_>| {
            let Reply::Array(parts) = &reply else { return Ok(()) };
            let [Reply::Bulk(Some(value)), epoch, Reply::Bulk(Some(holder)), Reply::Bulk(Some(rest)), told] =
                &parts[..]
            else {
                return Err(InvalidReply);
            };
            let epoch = Epoch(integer(epoch).ok_or(InvalidReply)?);
            let told = integer(told).ok_or(InvalidReply)?;
            let holder = String::from_utf8_lossy(holder).into_owned();
            found = Some((value.to_vec(), epoch, NodeId(holder.into()), rest.to_vec(), told));
            Ok(())
        };
        self.claims.call(&commands, CALL_LIMIT, read).await.map_err(|error| failed(&error))?;
        let Some((value, epoch, previous, rest, told)) = found else { return Ok(None) };
        let session = self.decode(&value, &rest)?;
        if told > 0 {
            self.wait_for_release(&keys[1], epoch, &previous).await.map_err(|error| failed(&error))?;
        }
        Ok(Some(Claimed { epoch, previous, session }))
    }

    async fn confirm(&self, node: &NodeId, held: &[(SessionId, Epoch)]) -> Result<Confirmed, StoreError> {
        let mut commands = Commands::default();
        commands.push("EXISTS", &[self.witness(node).as_bytes()]);
        for (id, epoch) in held {
            let epoch = epoch.0.to_string();
            let args = [&*node.0, &*epoch].map(str::as_bytes);
            Self::push_script(&mut commands, &self.scripts.confirm, &self.keys(&id.secret), &args);
        }
        let (mut is_whole, mut asked) = (None, held.iter());
        let mut confirmed = Confirmed::default();
        let read = |reply: Reply<'_>| {
            let number = integer(&reply).ok_or(InvalidReply)?;
            if is_whole.is_none() {
                is_whole = Some(number == 1);
                return Ok(());
            }
            let (id, _) = asked.next().ok_or(InvalidReply)?;
            match number {
                script::CLAIMED => confirmed.claimed.push(id.clone()),
                script::MISSING if is_whole == Some(true) => confirmed.missing.push(id.clone()),
                _ => {}
            }
            Ok(())
        };
        self.claims.call(&commands, CALL_LIMIT, read).await.map_err(|error| failed(&error))?;
        Ok(confirmed)
    }

    async fn renew(&self, node: &NodeId, lease: Duration) -> Result<(), StoreError> {
        let lease = lease.as_millis().max(1).to_string();
        let mut commands = Commands::default();
        commands.push("SET", &[self.lease(node).as_bytes(), b"1", b"PX", lease.as_bytes()]);
        commands.push("PEXPIRE", &[self.witness(node).as_bytes(), self.time_to_live(true).as_bytes()]);
        self.claims.call(&commands, CALL_LIMIT, |_| Ok(())).await.map_err(|error| failed(&error))
    }

    async fn claimed_elsewhere(&self, node: &NodeId) -> Result<Vec<(SessionId, Epoch)>, StoreError> {
        let caller = {
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            let open = || {
                let mut setup = Commands::default();
                setup.push("SUBSCRIBE", &[self.channel(node).as_bytes()]);
                Arc::new(Caller::new(self.config.clone(), setup))
            };
            news.get_or_insert_with(open).clone()
        };
        loop {
            let message = caller.message().await.map_err(|error| failed(&error))?;
            let text = String::from_utf8_lossy(&message);
            let mut parts = text.splitn(3, ' ');
            if let (Some(epoch), Some(secret), Some(namespace)) = (parts.next(), parts.next(), parts.next())
                && let Ok(epoch) = epoch.parse()
            {
                let id = SessionId { namespace: namespace.into(), secret: secret.into() };
                return Ok(vec![(id, Epoch(epoch))]);
            }
        }
    }

    async fn release(&self, _: &NodeId, sessions: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
        let mut commands = Commands::default();
        for (id, epoch) in sessions {
            let key = released(&self.keys(&id.secret)[1]);
            let epoch = epoch.0.to_string();
            commands.push("SET", &[key.as_bytes(), epoch.as_bytes(), b"PX", RELEASE_TTL]);
        }
        self.claims.call(&commands, CALL_LIMIT, |_| Ok(())).await.map_err(|error| failed(&error))
    }
}

impl fmt::Debug for RedisSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessionStore")
            .field("config", &self.config)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
