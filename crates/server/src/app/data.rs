//! What an application keeps with a socket

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::model::socket::Socket;
use crate::app::model::user_data::{DataError, read, write};

impl Socket {
    /// Keeps a value with the socket, in the place of the one before; it is `socket.data` on Node
    ///
    /// Kept as JSON, so that others can look it up with [`fetch_sockets`](crate::emit::Emit::fetch_sockets), on other nodes
    /// too, and so that it can outlast the connection where recovery is on: all handles to a client that comes back share
    /// it, those from before too. What cannot be JSON, or is nobody else's
    /// business, is better kept with [`set_extension`](Self::set_extension).
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
