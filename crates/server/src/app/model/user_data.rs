//! Application data and extensions of a socket.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytestring::ByteString;
use roomcast_recovery::SharedData;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Application data, extensions and auth payload of a socket.
#[derive(Default)]
pub(crate) struct UserData {
    /// JSON text, shared with the sockets of the recovered client; unset until first used.
    data: OnceLock<SharedData>,
    extensions: Mutex<http::Extensions>,
    /// Auth payload as JSON text; empty if there is none.
    auth: Mutex<ByteString>,
}

impl UserData {
    pub(crate) fn data(&self) -> &SharedData {
        self.data.get_or_init(SharedData::default)
    }

    /// Returns the data if it was set or restored.
    pub(crate) fn existing_data(&self) -> Option<SharedData> {
        self.data.get().cloned()
    }

    pub(crate) fn share_data(&self, data: SharedData) {
        // Already set if the middlewares run a second time.
        let _ = self.data.set(data);
    }

    pub(crate) fn shared_data(&self) -> SharedData {
        self.data().clone()
    }

    /// Returns the data as JSON text; empty if never set.
    pub(crate) fn data_json(&self) -> ByteString {
        self.data.get().map(SharedData::get).unwrap_or_default()
    }

    /// Returns the events of the client that were handled; empty if none are known.
    pub(crate) fn handled_events(&self) -> ByteString {
        self.data.get().map(SharedData::handled).unwrap_or_default()
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

/// Error of reading or writing the data of a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The value cannot be written as JSON, such as a map with keys that are not strings.
    #[error("value cannot be written as JSON; pass another type: {0}")]
    Unserializable(serde_json::Error),
    /// The JSON is not of the requested type.
    #[error("JSON does not match the requested type: {0}")]
    Mismatch(serde_json::Error),
}

pub(crate) fn write(value: &(impl Serialize + ?Sized)) -> Result<ByteString, DataError> {
    let mut json = roomcast_core::to_json(value).map_err(DataError::Unserializable)?;
    // Lives as long as the socket.
    json.shrink_to_fit();
    Ok(json.into())
}

pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, DataError> {
    serde_json::from_str(json).map_err(DataError::Mismatch)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
