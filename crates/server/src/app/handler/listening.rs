//! How handlers are registered and taken back, wherever that can be done

use crate::app::handler::call::{Handler, erase};
use crate::app::handler::signature::reserved;
use crate::app::model::event_input::Listener;
use crate::app::model::io::Io;
use crate::app::model::listeners::Topic;
use crate::app::model::socket::Socket;
use crate::app::namespace::NamespaceHandle;

impl Listener {
    /// A handler of the event of a name
    ///
    /// # Panics
    /// When no client sends an event of this name, or the handler takes what such an event has not.
    #[track_caller]
    pub(crate) fn of_event<M: 'static>(method: &str, event: &str, handler: impl Handler<M>) -> Self {
        if let Some(instead) = reserved(event) {
            panic!(
                "`{method}({event:?}, ..)`: the name is reserved, and no client sends such an event; {instead}"
            );
        }
        if let Some(problem) = handler.signature().problem(None) {
            panic!("`{method}({event:?}, ..)`: {problem}");
        }
        Self::new(erase(handler))
    }

    /// A handler of something else than an event by its name
    ///
    /// # Panics
    /// When the handler takes what is not there.
    #[track_caller]
    pub(crate) fn of_topic<M: 'static>(topic: Topic, handler: impl Handler<M>) -> Self {
        if let Some(problem) = handler.signature().problem(Some(topic)) {
            panic!("`{}(..)`: {problem}", topic.method());
        }
        Self::new(erase(handler))
    }
}

/// The methods by which handlers are registered, the same for all that has a board
macro_rules! listening {
    ($type:ty $(, $also:expr)?) => {
        impl $type {
            #[doc = include_str!("../../../docs/listening/on.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn on<M: 'static>(&self, event: &str, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.board().on(event, Listener::of_event("on", event, handler));
                self
            }

            #[doc = include_str!("../../../docs/listening/once.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn once<M: 'static>(&self, event: &str, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.board().once(event, Listener::of_event("once", event, handler));
                self
            }

            #[doc = include_str!("../../../docs/listening/off.md")]
            #[doc(alias = "remove_all_listeners")]
            pub fn off(&self, event: &str) -> &Self {
                self.board().off(event);
                self
            }

            #[doc = include_str!("../../../docs/listening/off_all.md")]
            #[doc(alias = "remove_all_listeners")]
            pub fn off_all(&self) -> &Self {
                self.board().off_all();
                self
            }

            #[doc = include_str!("../../../docs/listening/on_other.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_other<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Other, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_any<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Any, handler)
            }

            #[doc = include_str!("../../../docs/listening/prepend_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn prepend_any<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                let listener = Listener::of_topic(Topic::Any, handler);
                self.board().prepend_topic(Topic::Any, listener);
                self
            }

            #[doc = include_str!("../../../docs/listening/off_any.md")]
            pub fn off_any(&self) -> &Self {
                self.board().off_topic(Topic::Any);
                self
            }

            #[doc = include_str!("../../../docs/listening/event_middleware.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc(alias = "use")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn event_middleware<M: 'static>(&self, middleware: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Middleware, middleware)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnecting.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnecting<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Disconnecting, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnect.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnect<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Disconnect, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_error.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_error<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(Topic::Error, handler)
            }

            #[doc = include_str!("../../../docs/listening/listeners.md")]
            pub fn listeners(&self, event: &str) -> Vec<$crate::handler::ListenerId> {
                self.board().ids(event)
            }

            #[doc = include_str!("../../../docs/listening/listeners_any.md")]
            pub fn listeners_any(&self) -> Vec<$crate::handler::ListenerId> {
                self.board().ids_of_topic(Topic::Any)
            }

            #[doc = include_str!("../../../docs/listening/remove_listener.md")]
            pub fn remove_listener(&self, listener: $crate::handler::ListenerId) -> bool {
                self.board().remove(listener) $(|| ($also)(self, listener))?
            }

            #[track_caller]
            pub(crate) fn listen<M: 'static>(
                &self,
                topic: Topic,
                handler: impl $crate::handler::Handler<M>,
            ) -> &Self {
                self.board().on_topic(topic, Listener::of_topic(topic, handler));
                self
            }
        }
    };
}

listening!(Io);
listening!(NamespaceHandle);
listening!(Socket, |socket: &Self, listener| socket.state().outgoing.remove(socket, listener));

impl NamespaceHandle {
    /// Called when a client has joined the namespace, before any of its events; several are called in order
    ///
    /// What it registers on the [`Socket`](crate::Socket) before its first wait misses no event.
    #[doc = include_str!("../../../docs/handler.md")]
    #[doc = include_str!("../../../docs/listening/fits.md")]
    #[track_caller]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.listen(Topic::Connect, handler)
    }

    /// Asked whether a client may join, before it has; several are asked in the order of their registration
    ///
    /// The first that fails refuses the client, which gets the message of its error, and the data if it is a
    /// [`ConnectError`](crate::ConnectError). It may take [`Auth`](crate::Auth) and the socket, which is in no
    /// room yet: rooms that it joins here hold once the client is let in, and are forgotten if it is not. Until all
    /// have answered, events of the client wait.
    #[doc = include_str!("../../../docs/handler.md")]
    #[doc(alias = "use")]
    #[doc = include_str!("../../../docs/listening/fits.md")]
    #[track_caller]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.listen(Topic::Door, middleware)
    }
}

impl Io {
    /// See [`NamespaceHandle::on_connect`]
    #[track_caller]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.listen(Topic::Connect, handler)
    }

    /// See [`NamespaceHandle::middleware`]
    #[doc(alias = "use")]
    #[track_caller]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.listen(Topic::Door, middleware)
    }
}
