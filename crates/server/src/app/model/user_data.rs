//! Data that an application keeps with a socket

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytestring::ByteString;
use roomcast_recovery::SharedData;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    pub(crate) fn data(&self) -> &SharedData {
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
