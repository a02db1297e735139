//! What an application keeps with a socket

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytestring::ByteString;
use roomcast_recovery::SharedData;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::model::socket::Socket;

impl Socket {
    /// Keeps a value with the socket, in the place of the one before; it is `socket.data` on Node
    ///
    /// Kept as JSON, so that others can look it up with [`fetch_sockets`](crate::Emit::fetch_sockets), on other nodes
    /// too, and so that it can outlast the connection where recovery is on: all handles to a client that comes back share
    /// it, those from before too. What cannot be JSON, or is nobody else's
    /// business, is better kept with [`set_extension`](Self::set_extension).
    ///
    /// ```
    /// # fn f(socket: roomcast_server::Socket) -> Result<(), roomcast_server::DataError> {
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Player {
    ///     name: String,
    ///     score: u32,
    /// }
    ///
    /// socket.set_data(&Player { name: "ada".into(), score: 0 })?;
    /// let player: Option<Player> = socket.data()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn set_data(&self, data: &(impl Serialize + ?Sized)) -> Result<(), DataError> {
        self.kept().data().set(write(data)?);
        self.recount_data();
        Ok(())
    }

    /// The value kept with the socket; `None` if none was set
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, DataError> {
        let json = self.extras().map(|extras| extras.kept.data_json()).filter(|json| !json.is_empty());
        json.map(|json| read(&json)).transpose()
    }

    /// Keeps a value of this type with the socket, in this process only; gives back the one before
    ///
    /// A value that holds the socket itself keeps it for ever, unless it is taken out when the socket is gone.
    pub fn set_extension<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.kept().extensions().insert(value)
    }

    /// The value of this type that is kept with the socket in this process
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.extras()?.kept.extensions().get().cloned()
    }

    /// Takes the value of this type out again
    pub fn remove_extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.extras()?.kept.extensions().remove()
    }
}

/// What an application keeps with a socket, beside what every socket has
#[derive(Default)]
pub(crate) struct Kept {
    /// JSON text, shared with the sockets as which the client came back; nothing until it is set
    data: OnceLock<SharedData>,
    extensions: Mutex<http::Extensions>,
    /// What the client showed at the door, as JSON text; empty if nothing
    auth: Mutex<ByteString>,
}

impl Kept {
    fn data(&self) -> &SharedData {
        self.data.get_or_init(SharedData::default)
    }

    pub(crate) fn share_data(&self, data: SharedData) {
        // A middleware that is asked again has it already.
        let _ = self.data.set(data);
    }

    pub(crate) fn shared_data(&self) -> SharedData {
        self.data().clone()
    }

    /// JSON text; empty if it was never set
    pub(crate) fn data_json(&self) -> ByteString {
        self.data.get().map(SharedData::get).unwrap_or_default()
    }

    pub(crate) fn set_auth(&self, json: ByteString) {
        *lock(&self.auth) = json;
    }

    pub(crate) fn auth_json(&self) -> ByteString {
        lock(&self.auth).clone()
    }

    pub(crate) fn extensions(&self) -> MutexGuard<'_, http::Extensions> {
        lock(&self.extensions)
    }
}

/// What is kept with a socket, or known of it, could not be written or read
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The application passed a value that JSON cannot hold, such as a map whose keys are no strings
    #[error("the value cannot be written as JSON; pass another type: {0}")]
    Unserializable(serde_json::Error),
    /// What is there is not of the type that it is read as
    #[error("what is there does not fit the type it is read as: {0}")]
    Mismatch(serde_json::Error),
}

pub(crate) fn write(value: &(impl Serialize + ?Sized)) -> Result<ByteString, DataError> {
    let mut json = roomcast_core::to_json(value).map_err(DataError::Unserializable)?;
    // It stays as long as the socket.
    json.shrink_to_fit();
    Ok(json.into())
}

pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, DataError> {
    serde_json::from_str(json).map_err(DataError::Mismatch)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
