//! Identifiers of sessions, sockets, namespaces and rooms.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

/// Secret id of a session, part of the URL of every Engine.IO request.
///
/// It authenticates the client, so its `Debug` form is redacted, and it never reaches a handler or a log. The public
/// counterpart is [`SocketId`].
#[derive(Clone)]
pub struct Sid(Text);

/// Text stored inline if it is short, as server-generated ids are.
#[derive(Clone)]
enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<str>),
}

/// Bytes that fit inline without making the enum larger than a pointer to a long text requires.
const SHORT: usize = 22;

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            // The bytes were copied from a `str`.
            Self::Short { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

impl Sid {
    /// Creates a session id from a string with at least 120 bits from a cryptographic source.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Text::new(id.as_ref()))
    }

    /// Returns the secret, for the handshake response and the session table.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl Borrow<str> for Sid {
    fn borrow(&self) -> &str {
        self.expose()
    }
}

impl PartialEq for Sid {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Sid {}

// Hashes as the text, by which it may be looked up.
impl Hash for Sid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sid(redacted)")
    }
}

/// Implements the traits of a public name by its text.
macro_rules! as_its_text {
    ($name:ident) => {
        impl Eq for $name {}

        // Hashes as the text, by which it may be looked up.
        impl Hash for $name {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl From<&String> for $name {
            fn from(name: &String) -> Self {
                Self::new(name.as_str())
            }
        }

        impl From<&Self> for $name {
            fn from(name: &Self) -> Self {
                name.clone()
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self::new(name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

macro_rules! public_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<str>);

        // Compared names are nearly always clones of one another, and the pointers suffice.
        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl $name {
            /// Creates a name from any text.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        as_its_text!($name);
    };
}

public_name! {
    /// Public id of a socket, which is one client in one namespace; also the name of the socket's room.
    ///
    /// A string, since ids of other nodes and of older protocols have other forms.
    SocketId
}

public_name! {
    /// Server-side set of sockets in a namespace; clients never see it.
    Room
}

/// Named channel over one session; begins with `/`.
///
/// Cloning increments a reference count, except for `/`: nearly every message names it, and a counter shared by all
/// threads would be contended.
#[derive(Clone)]
pub struct Namespace(Option<Arc<str>>);

/// Name of the main namespace.
static MAIN: &str = "/";

impl Namespace {
    /// Creates a namespace from any text.
    pub fn new(name: impl Into<Arc<str>> + AsRef<str>) -> Self {
        Self(if name.as_ref() == MAIN { None } else { Some(name.into()) })
    }

    /// Returns the main namespace, `/`.
    pub const fn main() -> Self {
        Self(None)
    }

    /// Returns whether this is `/`.
    pub fn is_main(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the name as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(MAIN)
    }
}

// Compared names are nearly always clones of one another, and the pointers suffice.
impl PartialEq for Namespace {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own == other,
            _ => false,
        }
    }
}

as_its_text!(Namespace);

impl From<&SocketId> for Room {
    fn from(id: &SocketId) -> Self {
        Self(id.0.clone())
    }
}

/// Number by which an answer refers to its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "it is a number")]
pub struct AckId(pub u64);

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a socket in this process; never reused, so a late detach or leave affects no other socket.
///
/// Chosen before the member is attached. A recovered client keeps it: for the router, and for handles from before, it
/// is the same member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "it is a number")]
pub struct MemberKey(pub u64);

impl MemberKey {
    /// Returns a key that no earlier call in this process returned.
    #[must_use]
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, atomic::Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn main_namespace_equals_parsed_slash() {
        for main in
            [Namespace::main(), Namespace::new("/"), String::from("/").into(), Namespace::new(Arc::from("/"))]
        {
            assert!(main.is_main() && main.as_str() == "/", "{main:?}");
            assert_eq!(main, Namespace::main());
        }
        for other in ["", "/a", "//"] {
            let other = Namespace::new(other);
            assert!(!other.is_main() && other != Namespace::main(), "{other:?}");
            assert_eq!(other, Namespace::new(other.as_str()));
        }
        let found: HashSet<_> = ["/", "/a", "/"].map(Namespace::new).into();
        assert!(found.len() == 2 && found.contains("/") && found.contains("/a"));
        assert!(Namespace::new("") < Namespace::main() && Namespace::main() < Namespace::new("/a"));
    }

    #[test]
    fn sid_keeps_text_of_any_length() {
        for len in (0..=2 * SHORT).chain([255, 256, 257, 1000]) {
            // Two bytes per letter, so that texts end on both sides of each length.
            for text in ["s".repeat(len), "é".repeat(len)] {
                let (sid, longer) = (Sid::new(&text), Sid::new(format!("{text}s")));
                assert_eq!(sid.expose(), text);
                assert_eq!(sid, Sid::new(text.as_str()));
                assert_ne!(sid, longer);
                let known = HashSet::from([sid.clone()]);
                assert!(known.contains(text.as_str()) && known.contains(&sid) && !known.contains(&longer));
                assert_eq!(format!("{sid:?}"), "Sid(redacted)");
            }
        }
        assert_eq!(size_of::<Sid>(), 24);
    }
}
