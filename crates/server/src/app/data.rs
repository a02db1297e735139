//! Application data of a socket.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::model::socket::Socket;
use crate::app::model::user_data::{DataError, read, write};

impl Socket {
    /// Stores a value with the socket, replacing the previous one; this is `socket.data` on Node.
    ///
    /// The value is stored as JSON, so that [`fetch_sockets`](crate::emit::Emit::fetch_sockets) can return it on any
    /// node of a cluster. With recovery enabled it also outlives the connection: all handles of a recovered client
    /// share it, including those from before the connection broke. For values that are private or cannot be written as
    /// JSON, use [`set_extension`](Self::set_extension).
    ///
    /// ```
    /// # fn f(socket: roomcast_server::Socket) -> Result<(), roomcast_server::socket::DataError> {
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
    /// Returns an error if the value cannot be written as JSON.
    pub fn set_data(&self, data: &(impl Serialize + ?Sized)) -> Result<(), DataError> {
        self.user_data().data().set(write(data)?);
        self.report_data();
        Ok(())
    }

    /// Returns the value stored with the socket, or `None` if none was set.
    ///
    /// # Errors
    /// Returns an error if the value is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, DataError> {
        let json = self.extras().map(|extras| extras.user_data.data_json()).filter(|json| !json.is_empty());
        json.map(|json| read(&json)).transpose()
    }

    /// Stores a value of type `T` with the socket in this process, and returns the previous one.
    ///
    /// A value that holds the socket itself is a reference cycle: remove it once the socket has disconnected, or
    /// neither is ever freed.
    pub fn set_extension<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.user_data().extensions().insert(value)
    }

    /// Returns a clone of the value of type `T` stored with the socket in this process.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.extras()?.user_data.extensions().get().cloned()
    }

    /// Removes the value of type `T` and returns it.
    pub fn remove_extension<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.extras()?.user_data.extensions().remove()
    }
}
