//! Names of the Redis channels of one namespace.

use bytestring::ByteString;
use roomcast_core::{Namespace, Room};

/// Redis channels of one namespace, and of the node `uid` in it.
///
/// A driver subscribes to [`pattern`](Self::pattern), [`request`](Self::request), [`response`](Self::response) and
/// [`own_response`](Self::own_response), exactly once for each namespace that the node serves: the subscribers of the
/// request channel are the nodes that every request waits for.
///
/// ```
/// use roomcast_core::Namespace;
/// use roomcast_node_adapter::Channels;
///
/// let channels = Channels::new("socket.io", &Namespace::new("/chat"), "k3-9_a");
/// assert_eq!(channels.request(), "socket.io-request#/chat#");
/// assert_eq!(channels.broadcast(&["7".into()]), "socket.io#/chat#7#");
/// assert_eq!(channels.broadcast(&[]), "socket.io#/chat#");
/// ```
#[derive(Debug, Clone)]
pub struct Channels {
    broadcast: ByteString,
    pattern: ByteString,
    request: ByteString,
    response: ByteString,
    own_response: ByteString,
}

/// Kind of a channel, from [`Channels::classify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelKind<'a> {
    /// Broadcasts, to the sockets of this room or of the namespace.
    Broadcast(Option<&'a str>),
    /// Requests.
    Request,
    /// Responses to requests.
    Response,
}

impl Channels {
    /// Composes the names; `prefix` is Node's option `key`, by default `socket.io`.
    #[must_use]
    pub fn new(prefix: &str, namespace: &Namespace, uid: &str) -> Self {
        let broadcast = format!("{prefix}#{namespace}#");
        let response = format!("{prefix}-response#{namespace}#");
        Self {
            pattern: format!("{}*", escape_glob(&broadcast)).into(),
            broadcast: broadcast.into(),
            request: format!("{prefix}-request#{namespace}#").into(),
            own_response: format!("{response}{uid}#").into(),
            response: response.into(),
        }
    }

    /// Returns the pattern of all broadcast channels.
    ///
    /// Characters of the namespace that Redis reads as a glob are escaped. Node does not escape them, and ignores
    /// surplus messages.
    #[must_use]
    pub fn pattern(&self) -> &ByteString {
        &self.pattern
    }

    /// Returns the channel of requests, whose subscribers `PUBSUB NUMSUB` counts.
    #[must_use]
    pub fn request(&self) -> &ByteString {
        &self.request
    }

    /// Returns the channel of responses that all nodes share.
    #[must_use]
    pub fn response(&self) -> &ByteString {
        &self.response
    }

    /// Returns the channel of responses to this node.
    #[must_use]
    pub fn own_response(&self) -> &ByteString {
        &self.own_response
    }

    /// Returns the channel of responses to the node `uid`.
    #[must_use]
    pub fn response_to(&self, uid: &str) -> ByteString {
        format!("{}{uid}#", self.response).into()
    }

    /// Returns the channel of a broadcast: that of its room if it names exactly one.
    #[must_use]
    pub fn broadcast(&self, rooms: &[Room]) -> ByteString {
        match rooms {
            [_] => self.broadcast_parts(rooms).concat().into(),
            _ => self.broadcast.clone(),
        }
    }

    /// Returns the parts of the channel of a broadcast.
    pub(crate) fn broadcast_parts<'a>(&'a self, rooms: &'a [Room]) -> [&'a str; 3] {
        match rooms {
            [room] => [&self.broadcast, room.as_str(), "#"],
            _ => [&self.broadcast, "", ""],
        }
    }

    /// Returns the kind of a channel, or `None` for a channel of another namespace.
    ///
    /// Another namespace may have the same channel as a room of this one: `/a#b` and the room `b` of `/a`. Messages
    /// name their namespace, so they are not confused.
    #[must_use]
    pub fn classify<'a>(&self, channel: &'a str) -> Option<ChannelKind<'a>> {
        if let Some(room) = channel.strip_prefix(&*self.broadcast) {
            return match room.strip_suffix('#') {
                _ if room.is_empty() => Some(ChannelKind::Broadcast(None)),
                Some(room) => Some(ChannelKind::Broadcast(Some(room))),
                None => None,
            };
        }
        match channel {
            _ if self.request == channel => Some(ChannelKind::Request),
            _ if self.response == channel || self.own_response == channel => Some(ChannelKind::Response),
            _ => None,
        }
    }
}

/// Channels of one namespace that the sharded adapter and the Redis Streams adapter use, and of the node `uid` in it.
///
/// ```
/// use roomcast_core::Namespace;
/// use roomcast_node_adapter::ClusterChannels;
///
/// let channels = ClusterChannels::new("socket.io", &Namespace::new("/chat"), "0123456789abcdef");
/// assert_eq!(channels.common(), "socket.io#/chat#");
/// assert_eq!(channels.own(), "socket.io#/chat#0123456789abcdef#");
/// assert_eq!(channels.room("7"), "socket.io#/chat#7#");
/// ```
#[derive(Debug, Clone)]
pub struct ClusterChannels {
    common: ByteString,
    own: ByteString,
}

impl ClusterChannels {
    /// Composes the names; `prefix` is Node's option `channelPrefix`, by default `socket.io`.
    #[must_use]
    pub fn new(prefix: &str, namespace: &Namespace, uid: &str) -> Self {
        let common = format!("{prefix}#{namespace}#");
        Self { own: format!("{common}{uid}#").into(), common: common.into() }
    }

    /// Returns the channel of all nodes, whose subscribers are counted.
    #[must_use]
    pub fn common(&self) -> &ByteString {
        &self.common
    }

    /// Returns the channel of answers to this node.
    #[must_use]
    pub fn own(&self) -> &ByteString {
        &self.own
    }

    /// Returns the channel of answers to the node `uid`.
    #[must_use]
    pub fn node(&self, uid: &str) -> ByteString {
        format!("{}{uid}#", self.common).into()
    }

    /// Returns the channel of broadcasts to a room, which only the sharded adapter has.
    ///
    /// It may be the channel of a node or of another namespace too: messages name their type and namespace.
    #[must_use]
    pub fn room(&self, room: &str) -> ByteString {
        self.node(room)
    }
}

/// Escapes the characters that Redis reads as a glob.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_channels_like_node() {
        let channels = Channels::new("socket.io", &Namespace::main(), "uid123");
        assert_eq!(channels.pattern(), "socket.io#/#*");
        assert_eq!(channels.request(), "socket.io-request#/#");
        assert_eq!(channels.response(), "socket.io-response#/#");
        assert_eq!(channels.own_response(), "socket.io-response#/#uid123#");
        assert_eq!(channels.response_to("other1"), "socket.io-response#/#other1#");
        assert_eq!(channels.broadcast(&["a".into(), "b".into()]), "socket.io#/#");
    }

    #[test]
    fn finds_room_of_any_name() {
        let channels = Channels::new("p", &Namespace::new("/n"), "uid123");
        for room in ["7", "a#b", "#", "##", "12345678901234567890", "uid123", "/n", " ", "é*?[", ""] {
            let channel = channels.broadcast(&[room.into()]);
            assert_eq!(channels.classify(&channel), Some(ChannelKind::Broadcast(Some(room))), "{channel}");
        }
        assert_eq!(channels.classify("p#/n#"), Some(ChannelKind::Broadcast(None)));
        for other in
            ["p#/n#room", "p#/m#", "p-request#/m#", "p-request#/n#x#", "p-response#/n#other1#", "q#/n#", ""]
        {
            assert_eq!(channels.classify(other), None, "{other}");
        }
        assert_eq!(channels.classify("p-request#/n#"), Some(ChannelKind::Request));
        assert_eq!(channels.classify("p-response#/n#"), Some(ChannelKind::Response));
        assert_eq!(channels.classify("p-response#/n#uid123#"), Some(ChannelKind::Response));
    }

    #[test]
    fn escapes_globs_of_namespaces() {
        let channels = Channels::new("p", &Namespace::new(r"/a*[b]?\^"), "u");
        assert_eq!(channels.pattern(), r"p#/a\*\[b\]\?\\\^#*");
        assert_eq!(channels.request(), r"p-request#/a*[b]?\^#");
    }
}
