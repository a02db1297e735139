//! The names by which a client, its sockets and its rooms are known

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Secret id of a session, as it stands in the URL of every Engine.IO request
///
/// Whoever knows it can speak for the client, so its `Debug` form is redacted and it never reaches a handler
/// or a log. The public counterpart is [`SocketId`].
#[derive(Clone)]
pub struct Sid(Text);

/// A text that lies in place if it is short, as the ids are that servers make
#[derive(Clone)]
enum Text {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<str>),
}

/// So much fits beside the length where the pointer to a longer text would lie
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
            // It was a text when it was put there.
            Self::Short { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

impl Sid {
    /// Takes an id that was drawn from a cryptographic source, at least 120 bits of it
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Text::new(id.as_ref()))
    }

    /// The secret itself, for the handshake answer and the session table
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

// As the text it may be looked up by.
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

macro_rules! public_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        // Two that are compared are nearly always the same one, and then their text need not be looked at.
        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        // As the text it may be looked up by.
        impl Hash for $name {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// Takes the name as it is
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<&String> for $name {
            fn from(name: &String) -> Self {
                Self(name.as_str().into())
            }
        }

        impl From<&Self> for $name {
            fn from(name: &Self) -> Self {
                name.clone()
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

public_name! {
    /// Public id of a socket: one client in one namespace; also the name of its own room
    ///
    /// A string, since ids of other nodes and of older protocols have forms of their own.
    SocketId
}

public_name! {
    /// A set of sockets in a namespace, kept by the server; clients never see it
    Room
}

public_name! {
    /// Named channel over one session; begins with `/`
    Namespace
}

impl Namespace {
    /// The namespace every client may use without naming it: `/`
    pub fn main() -> Self {
        Self::new("/")
    }

    /// Another handle, for somebody who is going to [give it back](Self::give_back)
    ///
    /// As good as a clone, and cheaper for one that goes round and round on the same thread: its handles are not
    /// counted up and down each time.
    #[inline]
    pub fn lend(&self) -> Self {
        let back = RETURNED.try_with(Cell::take).ok().flatten();
        back.filter(|back| Arc::ptr_eq(&back.0, &self.0)).unwrap_or_else(|| self.clone())
    }

    /// Lets go of a handle, which this thread keeps for the next that it [lends](Self::lend)
    #[inline]
    pub fn give_back(self) {
        // A thread that is ending keeps nothing.
        let _ = RETURNED.try_with(|returned| returned.set(Some(self)));
    }

    /// Whether this is `/`
    pub fn is_main(&self) -> bool {
        self.as_str() == "/"
    }
}

thread_local! {
    /// The handle that was given back last
    static RETURNED: Cell<Option<Namespace>> = const { Cell::new(None) };
}

impl From<&SocketId> for Room {
    fn from(id: &SocketId) -> Self {
        Self(id.0.clone())
    }
}

/// Number by which an answer names the event it answers
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AckId(pub u64);

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_handle_that_was_given_back_is_lent_again_for_its_own_namespace_alone() {
        let (here, there) = (Namespace::new("/here"), Namespace::new("/here"));
        let handles = |namespace: &Namespace| Arc::strong_count(&namespace.0);
        for _ in 0..3 {
            let lent = here.lend();
            assert!(Arc::ptr_eq(&lent.0, &here.0));
            lent.give_back();
            assert_eq!(handles(&here), 2);
        }
        assert!(Arc::ptr_eq(&there.lend().0, &there.0));
        assert_eq!((handles(&here), handles(&there)), (1, 1));
        let two = [here.lend(), here.lend()];
        assert_eq!(handles(&here), 3);
        two.into_iter().for_each(Namespace::give_back);
        assert_eq!(handles(&here), 2);
    }

    #[test]
    fn a_sid_of_any_length_is_the_text_it_was_made_of() {
        for len in (0..=2 * SHORT).chain([255, 256, 257, 1000]) {
            // Two bytes a letter, so that texts end on both sides of each length.
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
