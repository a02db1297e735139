//! Registration and removal of handlers.

use crate::app::handler::call::{Handler, erase};
use crate::app::handler::signature::reserved;
use crate::app::model::event_input::Listener;
use crate::app::model::io::Io;
use crate::app::model::listeners::ListenerKind;
use crate::app::model::socket::Socket;
use crate::app::namespace::NamespaceHandle;

impl Listener {
    /// Creates a listener for an event name.
    ///
    /// # Panics
    /// Panics if the name is reserved, or if the handler takes a parameter that such an event does not have.
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

    /// Creates a listener for anything but an event name.
    ///
    /// # Panics
    /// Panics if the handler takes a parameter that is not available there.
    #[track_caller]
    pub(crate) fn of_topic<M: 'static>(topic: ListenerKind, handler: impl Handler<M>) -> Self {
        if let Some(problem) = handler.signature().problem(Some(topic)) {
            panic!("`{}(..)`: {problem}", topic.method());
        }
        Self::new(erase(handler))
    }
}

/// Methods that register handlers, shared by every type with a handler registry.
macro_rules! listening {
    ($type:ty $(, $also:expr)?) => {
        impl $type {
            #[doc = include_str!("../../../docs/listening/on.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn on<M: 'static>(&self, event: &str, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.registry().on(event, Listener::of_event("on", event, handler));
                self
            }

            #[doc = include_str!("../../../docs/listening/once.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn once<M: 'static>(&self, event: &str, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.registry().once(event, Listener::of_event("once", event, handler));
                self
            }

            #[doc = include_str!("../../../docs/listening/off.md")]
            #[doc(alias = "remove_all_listeners")]
            pub fn off(&self, event: &str) -> &Self {
                self.registry().off(event);
                self
            }

            #[doc = include_str!("../../../docs/listening/off_all.md")]
            #[doc(alias = "remove_all_listeners")]
            pub fn off_all(&self) -> &Self {
                self.registry().off_all();
                self
            }

            #[doc = include_str!("../../../docs/listening/on_other.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_other<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Other, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_any<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Any, handler)
            }

            #[doc = include_str!("../../../docs/listening/prepend_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn prepend_any<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                let listener = Listener::of_topic(ListenerKind::Any, handler);
                self.registry().prepend_topic(ListenerKind::Any, listener);
                self
            }

            #[doc = include_str!("../../../docs/listening/off_any.md")]
            pub fn off_any(&self) -> &Self {
                self.registry().off_topic(ListenerKind::Any);
                self
            }

            #[doc = include_str!("../../../docs/listening/event_middleware.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc(alias = "use")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn event_middleware<M: 'static>(&self, middleware: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Middleware, middleware)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnecting.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnecting<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Disconnecting, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnect.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnect<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Disconnect, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_error.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_error<M: 'static>(&self, handler: impl $crate::handler::Handler<M>) -> &Self {
                self.listen(ListenerKind::Error, handler)
            }

            #[doc = include_str!("../../../docs/listening/listeners.md")]
            pub fn listeners(&self, event: &str) -> Vec<$crate::handler::ListenerId> {
                self.registry().ids(event)
            }

            #[doc = include_str!("../../../docs/listening/listeners_any.md")]
            pub fn listeners_any(&self) -> Vec<$crate::handler::ListenerId> {
                self.registry().ids_of_topic(ListenerKind::Any)
            }

            #[doc = include_str!("../../../docs/listening/remove_listener.md")]
            pub fn remove_listener(&self, listener: $crate::handler::ListenerId) -> bool {
                self.registry().remove(listener) $(|| ($also)(self, listener))?
            }

            #[track_caller]
            pub(crate) fn listen<M: 'static>(
                &self,
                topic: ListenerKind,
                handler: impl $crate::handler::Handler<M>,
            ) -> &Self {
                self.registry().on_topic(topic, Listener::of_topic(topic, handler));
                self
            }
        }
    };
}

listening!(Io);
listening!(NamespaceHandle);
listening!(Socket, |socket: &Self, listener| socket.state().outgoing.remove(socket, listener));

impl NamespaceHandle {
    /// Adds a handler that runs when a client has joined the namespace, before any of its events.
    ///
    /// Several handlers run in order of registration. Handlers that it registers on the [`Socket`](crate::Socket)
    /// before its first `.await` miss no event.
    #[doc = include_str!("../../../docs/handler.md")]
    #[doc = include_str!("../../../docs/listening/fits.md")]
    #[track_caller]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.listen(ListenerKind::Connect, handler)
    }

    /// Adds a middleware that accepts or rejects each client that connects to the namespace.
    ///
    /// Middlewares run in order of registration. The first error rejects the client, which receives the error message
    /// and, for a [`ConnectError`](crate::ConnectError), the data. A middleware may extract [`Auth`](crate::Auth) and
    /// the socket. The socket is in no room yet: rooms that it joins here take effect once the client is accepted, and
    /// are discarded if it is rejected. Events of the client wait until all middlewares have completed.
    #[doc = include_str!("../../../docs/handler.md")]
    #[doc(alias = "use")]
    #[doc = include_str!("../../../docs/listening/fits.md")]
    #[track_caller]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.listen(ListenerKind::ConnectMiddleware, middleware)
    }
}

impl Io {
    /// Adds a connect handler to the main namespace; see [`NamespaceHandle::on_connect`].
    #[track_caller]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.listen(ListenerKind::Connect, handler)
    }

    /// Adds a middleware to the main namespace; see [`NamespaceHandle::middleware`].
    #[doc(alias = "use")]
    #[track_caller]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.listen(ListenerKind::ConnectMiddleware, middleware)
    }
}
