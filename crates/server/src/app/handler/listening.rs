//! How handlers are registered and taken back, wherever that can be done

use crate::app::model::io::Io;
use crate::app::model::namespace::NamespaceHandle;
use crate::app::model::socket::Socket;

/// The methods by which handlers are registered, the same for all that has a board
macro_rules! listening {
    ($type:ty $(, $also:expr)?) => {
        impl $type {
            #[doc = include_str!("../../../docs/listening/on.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn on<M: 'static>(&self, event: &str, handler: impl $crate::Handler<M>) -> &Self {
                self.board().on(event, $crate::app::model::listeners::Listener::of_event("on", event, handler));
                self
            }

            #[doc = include_str!("../../../docs/listening/once.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/reserved.md")]
            #[track_caller]
            pub fn once<M: 'static>(&self, event: &str, handler: impl $crate::Handler<M>) -> &Self {
                self.board().once(event, $crate::app::model::listeners::Listener::of_event("once", event, handler));
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
            pub fn on_other<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Other, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_any<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Any, handler)
            }

            #[doc = include_str!("../../../docs/listening/prepend_any.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn prepend_any<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                let listener = $crate::app::model::listeners::Listener::of_topic($crate::app::model::listeners::Topic::Any, handler);
                self.board().prepend_topic($crate::app::model::listeners::Topic::Any, listener);
                self
            }

            #[doc = include_str!("../../../docs/listening/off_any.md")]
            pub fn off_any(&self) -> &Self {
                self.board().off_topic($crate::app::model::listeners::Topic::Any);
                self
            }

            #[doc = include_str!("../../../docs/listening/event_middleware.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc(alias = "use")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn event_middleware<M: 'static>(&self, middleware: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Middleware, middleware)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnecting.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnecting<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Disconnecting, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_disconnect.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_disconnect<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Disconnect, handler)
            }

            #[doc = include_str!("../../../docs/listening/on_error.md")]
            #[doc = include_str!("../../../docs/handler.md")]
            #[doc = include_str!("../../../docs/listening/fits.md")]
            #[track_caller]
            pub fn on_error<M: 'static>(&self, handler: impl $crate::Handler<M>) -> &Self {
                self.listen($crate::app::model::listeners::Topic::Error, handler)
            }

            #[doc = include_str!("../../../docs/listening/listeners.md")]
            pub fn listeners(&self, event: &str) -> Vec<$crate::ListenerId> {
                self.board().ids(event)
            }

            #[doc = include_str!("../../../docs/listening/listeners_any.md")]
            pub fn listeners_any(&self) -> Vec<$crate::ListenerId> {
                self.board().ids_of_topic($crate::app::model::listeners::Topic::Any)
            }

            #[doc = include_str!("../../../docs/listening/remove_listener.md")]
            pub fn remove_listener(&self, listener: $crate::ListenerId) -> bool {
                self.board().remove(listener) $(|| ($also)(self, listener))?
            }

            #[track_caller]
            pub(crate) fn listen<M: 'static>(
                &self,
                topic: $crate::app::model::listeners::Topic,
                handler: impl $crate::Handler<M>,
            ) -> &Self {
                self.board().on_topic(topic, $crate::app::model::listeners::Listener::of_topic(topic, handler));
                self
            }
        }
    };
}

listening!(Io);
listening!(NamespaceHandle);
listening!(Socket, |socket: &Self, listener| socket.state().outgoing.remove(socket, listener));
