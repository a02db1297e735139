//! Limits on connections and sessions, in total and per address

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::host::config::Config;
use crate::host::limit::Limit;

/// Open connections and sessions, with their limits.
#[derive(Debug)]
pub(crate) struct Limits {
    connections: Arc<Counter>,
    sessions: AtomicUsize,
    max_sessions: usize,
    /// Bytes of retained handshakes, excluding shared headers
    handshake_bytes: AtomicUsize,
    addresses: Option<Addresses>,
    /// Whether unknown client addresses have been logged
    told: AtomicBool,
}

/// Open connections and sessions per address; idle addresses have no entry.
#[derive(Debug)]
struct Addresses {
    limit: usize,
    open: DashMap<IpAddr, Open>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Open {
    connections: usize,
    sessions: usize,
}

impl Limits {
    pub(crate) fn new(max_sessions: usize, max_per_address: Option<usize>) -> Self {
        Self {
            handshake_bytes: AtomicUsize::new(0),
            connections: Arc::default(),
            sessions: AtomicUsize::new(0),
            max_sessions,
            addresses: max_per_address.map(|limit| Addresses { limit, open: DashMap::new() }),
            told: AtomicBool::new(false),
        }
    }

    /// Logs once which settings have no effect because the outer server does not provide client addresses.
    pub(crate) fn warn_unknown_address(&self, config: &Config) {
        let setting = match (self.addresses.is_some(), config.http.trusted_proxies.is_empty()) {
            (true, true) => "max_connections_per_address",
            (true, false) => "max_connections_per_address, trusted_proxies",
            (false, false) => "trusted_proxies",
            (false, true) => return,
        };
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                setting,
                fix = "serve axum with into_make_service_with_connect_info::<SocketAddr>(), or put a Peer into the \
                       extensions of each request",
                "client addresses are unknown: setting has no effect"
            );
        }
    }

    /// Returns the number of open TCP connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.count.load(Ordering::Relaxed)
    }

    /// Counts an open TCP connection, if below the limit.
    pub(crate) fn begin_connection(&self, max: usize) -> Result<Permit, Limit> {
        Permit::take(&self.connections, max).ok_or(Limit::Connections)
    }

    /// Counts a connection for its address too, where addresses are limited.
    pub(crate) fn for_address(self: &Arc<Self>, permit: Permit, address: IpAddr) -> Result<Permit, Limit> {
        let Some(addresses) = &self.addresses else { return Ok(permit) };
        if !addresses.take(address, |open| &mut open.connections) {
            return Err(Limit::Address);
        }
        let address = AddressPermit { limits: self.clone(), address, _connection: permit };
        Ok(Permit(Arc::new(Counter { count: AtomicUsize::new(1), address: Some(address) })))
    }

    /// Counts a session; release it by [`end_session`](Self::end_session) with the same address.
    pub(crate) fn begin_session(&self, address: Option<IpAddr>) -> Result<(), Limit> {
        take(&self.sessions, self.max_sessions).map_err(|()| Limit::Sessions)?;
        if let (Some(addresses), Some(address)) = (&self.addresses, address)
            && !addresses.take(address, |open| &mut open.sessions)
        {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Address);
        }
        Ok(())
    }

    pub(crate) fn end_session(&self, address: Option<IpAddr>) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        if let (Some(addresses), Some(address)) = (&self.addresses, address) {
            addresses.give_back(address, |open| &mut open.sessions);
        }
    }

    /// Reserves handshake bytes; [release](Self::give_back_handshake) them later. Returns `false` at the limit.
    pub(crate) fn take_handshake(&self, bytes: usize, max: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= max);
        self.handshake_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn give_back_handshake(&self, bytes: usize) {
        self.handshake_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn known_addresses(&self) -> usize {
        self.addresses.as_ref().map_or(0, |addresses| addresses.open.len())
    }
}

impl Addresses {
    fn take(&self, address: IpAddr, part: impl Fn(&mut Open) -> &mut usize) -> bool {
        if self.limit == 0 {
            return false;
        }
        let mut open = self.open.entry(network(address)).or_default();
        let count = part(&mut open);
        let fits = *count < self.limit;
        *count += usize::from(fits);
        fits
    }

    fn give_back(&self, address: IpAddr, part: impl Fn(&mut Open) -> &mut usize) {
        if let Entry::Occupied(mut entry) = self.open.entry(network(address)) {
            let open = entry.get_mut();
            let count = part(open);
            *count = count.saturating_sub(1);
            if open.connections == 0 && open.sessions == 0 {
                entry.remove();
            }
        }
    }
}

/// Guard that is counted in a counter until it is dropped.
///
/// One pointer, since each session has one.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Counter>);

/// Counter of permits.
#[derive(Debug, Default)]
struct Counter {
    count: AtomicUsize,
    /// Set where addresses are limited: each connection has its own counter then.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    address: Option<AddressPermit>,
}

impl Permit {
    /// Takes a permit, if below the limit.
    fn take(counter: &Arc<Counter>, limit: usize) -> Option<Self> {
        take(&counter.count, limit).ok().map(|()| Self(counter.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Permit of an open TCP connection, held by its requests; the session that takes it over from HTTP moves it out.
#[derive(Clone)]
pub(crate) struct ConnectionPermit(Arc<Mutex<Option<Permit>>>);

/// TCP connection of a request that may begin a session.
#[derive(Debug, Clone)]
pub(crate) struct OpenedOn {
    /// Sessions that began there and have neither ended nor upgraded.
    sessions: Arc<Counter>,
    max: usize,
}

impl OpenedOn {
    pub(crate) fn new(max: usize) -> Self {
        Self { sessions: Arc::default(), max }
    }

    /// Counts a session, if below the limit.
    pub(crate) fn begin_session(self) -> Result<Permit, Limit> {
        Permit::take(&self.sessions, self.max).ok_or(Limit::ConnectionSessions)
    }
}

impl ConnectionPermit {
    pub(crate) fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Moves the permit out; `None` if another session has taken it.
    pub(crate) fn take(&self) -> Option<Permit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Permit of a connection that is counted for its address too.
#[derive(Debug)]
struct AddressPermit {
    limits: Arc<Limits>,
    address: IpAddr,
    _connection: Permit,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Some(addresses) = &self.limits.addresses {
            addresses.give_back(self.address, |open| &mut open.connections);
        }
    }
}

fn take(count: &AtomicUsize, limit: usize) -> Result<(), ()> {
    let more = |count| (count < limit).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map(drop).map_err(drop)
}

/// Returns the counting key of an address: IPv4 address, or /64 network of an IPv6 subscriber.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn bounds_sessions_total_and_per_address() {
        let limits = Limits::new(3, Some(2));
        let (a, b) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert_eq!(limits.begin_session(a), Ok(()));
        assert_eq!(limits.begin_session(a), Ok(()));
        assert_eq!(limits.begin_session(a), Err(Limit::Address));
        assert_eq!(limits.begin_session(b), Ok(()));
        assert_eq!(limits.begin_session(None), Err(Limit::Sessions));
        limits.end_session(a);
        assert_eq!(limits.begin_session(None), Ok(()));
    }

    #[test]
    fn bounds_handshake_bytes() {
        let limits = Limits::new(3, None);
        assert!(limits.take_handshake(60, 100));
        assert!(!limits.take_handshake(41, 100) && !limits.take_handshake(usize::MAX, 100));
        assert!(limits.take_handshake(40, 100));
        limits.give_back_handshake(60);
        assert!(limits.take_handshake(60, 100));
    }

    #[test]
    fn bounds_sessions_per_connection() {
        let opened_on = OpenedOn::new(2);
        let begin = || opened_on.clone().begin_session();
        let first = begin().expect("below the limit");
        let _second = begin().expect("below the limit");
        assert_eq!(begin().err(), Some(Limit::ConnectionSessions));
        drop(first);
        assert!(begin().is_ok());
    }

    #[test]
    fn forgets_address_without_open_sessions() {
        let limits = Limits::new(10, Some(2));
        for _ in 0..3 {
            limits.begin_session(ip("192.0.2.1")).expect("below the limit");
            limits.begin_session(ip("2001:db8::1")).expect("below the limit");
            assert_eq!(limits.known_addresses(), 2);
            limits.end_session(ip("192.0.2.1"));
            limits.end_session(ip("2001:db8::1"));
            assert_eq!(limits.known_addresses(), 0);
        }
        let off = Limits::new(10, None);
        off.begin_session(ip("192.0.2.1")).expect("below the limit");
        assert_eq!(off.known_addresses(), 0);
    }

    #[test]
    fn bounds_sessions_per_ipv6_subnet() {
        let limits = Limits::new(10, Some(1));
        assert_eq!(limits.begin_session(ip("2001:db8:0:1::1")), Ok(()));
        assert_eq!(limits.begin_session(ip("2001:db8:0:1:ffff::2")), Err(Limit::Address));
        assert_eq!(limits.begin_session(ip("2001:db8:0:2::1")), Ok(()));
        assert_eq!(limits.begin_session(ip("192.0.2.1")), Ok(()));
        assert_eq!(limits.begin_session(ip("::ffff:192.0.2.1")), Err(Limit::Address));
    }
}
