//! Emit operators of types that address several sockets.

use std::sync::Arc;

use roomcast_core::{IntoArgs, Receipt, Target};

use crate::app::emit::answers::Answers;
use crate::app::emit::broadcast::Emit;
use crate::app::error::EmitError;
use crate::app::into_rooms::IntoRooms;
use crate::app::model::io::Io;
use crate::app::namespace::NamespaceHandle;

/// Implements the operators of [`Emit`](crate::emit::Emit) for a type; `$target` builds the initial `Emit`.
macro_rules! operators {
    ($type:ident, |$this:ident| $target:expr) => {
        impl $type {
            #[doc = include_str!("../../../docs/emit.md")]
            pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
                let $this = self;
                $target.emit(event, args)
            }

            #[doc = include_str!("../../../docs/send.md")]
            pub fn send(&self, args: impl IntoArgs) -> Result<Receipt, EmitError> {
                let $this = self;
                $target.send(args)
            }

            #[doc = include_str!("../../../docs/emit_with_ack.md")]
            pub async fn emit_with_ack(
                &self,
                event: &str,
                args: impl IntoArgs,
            ) -> Result<Answers, EmitError> {
                let $this = self;
                $target.emit_with_ack(event, args).await
            }

            #[doc = include_str!("../../../docs/to.md")]
            pub fn to(&self, rooms: impl IntoRooms) -> Emit {
                let $this = self;
                $target.to(rooms)
            }

            #[doc = include_str!("../../../docs/within.md")]
            #[doc(alias = "in")]
            pub fn within(&self, rooms: impl IntoRooms) -> Emit {
                let $this = self;
                $target.within(rooms)
            }

            #[doc = include_str!("../../../docs/except.md")]
            pub fn except(&self, rooms: impl IntoRooms) -> Emit {
                let $this = self;
                $target.except(rooms)
            }

            #[doc = include_str!("../../../docs/local.md")]
            pub fn local(&self) -> Emit {
                let $this = self;
                $target.local()
            }

            #[doc = include_str!("../../../docs/volatile.md")]
            pub fn volatile(&self) -> Emit {
                let $this = self;
                $target.volatile()
            }

            #[doc = include_str!("../../../docs/compress.md")]
            pub fn compress(&self, compress: bool) -> Emit {
                let $this = self;
                $target.compress(compress)
            }

            #[doc = include_str!("../../../docs/timeout.md")]
            pub fn timeout(&self, timeout: std::time::Duration) -> Emit {
                let $this = self;
                $target.timeout(timeout)
            }

            #[doc = include_str!("../../../docs/overflow.md")]
            pub fn overflow(&self, overflow: roomcast_core::Overflow) -> Emit {
                let $this = self;
                $target.overflow(overflow)
            }

            #[doc = include_str!("../../../docs/latest.md")]
            pub fn latest(&self, key: impl Into<Arc<str>>) -> Emit {
                let $this = self;
                $target.latest(key)
            }

            #[doc = include_str!("../../../docs/fetch_sockets.md")]
            pub async fn fetch_sockets(
                &self,
            ) -> Result<Vec<crate::rooms::RemoteSocket>, roomcast_core::QueryError<crate::rooms::RemoteSocket>> {
                let $this = self;
                $target.fetch_sockets().await
            }

            #[doc = include_str!("../../../docs/count_all.md")]
            pub async fn count_all(&self) -> Result<usize, roomcast_core::QueryError<usize>> {
                let $this = self;
                $target.count_all().await
            }

            #[doc = include_str!("../../../docs/emit_confirmed.md")]
            pub async fn emit_confirmed(
                &self,
                event: &str,
                args: impl IntoArgs,
            ) -> Result<Receipt, crate::emit::ConfirmError> {
                let $this = self;
                $target.emit_confirmed(event, args).await
            }

            #[doc = include_str!("../../../docs/sockets_join.md")]
            pub fn sockets_join(&self, rooms: impl IntoRooms) -> usize {
                let $this = self;
                $target.sockets_join(rooms)
            }

            #[doc = include_str!("../../../docs/sockets_leave.md")]
            pub fn sockets_leave(&self, rooms: impl IntoRooms) -> usize {
                let $this = self;
                $target.sockets_leave(rooms)
            }

            #[doc = include_str!("../../../docs/disconnect.md")]
            #[doc(alias = "disconnect_sockets")]
            pub fn disconnect(&self) -> usize {
                let $this = self;
                $target.disconnect()
            }

            #[doc = include_str!("../../../docs/disconnect_client.md")]
            #[doc(alias = "disconnect_sockets")]
            pub fn disconnect_client(&self) -> usize {
                let $this = self;
                $target.disconnect_client()
            }
        }
    };
}

operators!(Io, |io| io.main().target());
operators!(NamespaceHandle, |namespace| namespace.target());

impl NamespaceHandle {
    /// Returns a broadcast builder for all sockets of the namespace.
    pub fn target(&self) -> Emit {
        Emit::new(self.state.clone(), Target::default())
    }
}
