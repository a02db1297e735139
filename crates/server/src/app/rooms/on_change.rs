//! Registration of room-change hooks

use std::sync::Arc;

use roomcast_core::{Room, RoomChange, SocketId};

use crate::app::model::io::Io;
use crate::app::model::room_hooks::{RoomHook, RoomsOf};
use crate::app::namespace::NamespaceHandle;
use crate::app::rooms::presence::Presence;

/// Hook that calls a function of the application
struct Call<F>(F);

impl<F: Fn(&RoomChange) + Send + Sync + 'static> RoomHook for Call<F> {
    fn changed(&self, _rooms: &RoomsOf, change: &RoomChange) {
        // A survey requested by another hook, not a change.
        if matches!(change, RoomChange::Present { .. }) {
            return;
        }
        (self.0)(change);
    }

    fn copy(self: Arc<Self>) -> Arc<dyn RoomHook> {
        self
    }
}

macro_rules! room_hooks {
    ($type:ident, |$this:ident| $hooks:expr) => {
        impl $type {
            #[doc = include_str!("../../../docs/on_room_change.md")]
            pub fn on_room_change(&self, hook: impl Fn(&RoomChange) + Send + Sync + 'static) -> &Self {
                let $this = self;
                $hooks.add(Arc::new(Call(hook)));
                self
            }

            #[doc = include_str!("../../../docs/on_create_room.md")]
            pub fn on_create_room(&self, hook: impl Fn(&Room) + Send + Sync + 'static) -> &Self {
                self.on_room_change(move |change| {
                    if let RoomChange::Created { room } = change {
                        hook(room);
                    }
                })
            }

            #[doc = include_str!("../../../docs/on_delete_room.md")]
            pub fn on_delete_room(&self, hook: impl Fn(&Room) + Send + Sync + 'static) -> &Self {
                self.on_room_change(move |change| {
                    if let RoomChange::Deleted { room } = change {
                        hook(room);
                    }
                })
            }

            #[doc = include_str!("../../../docs/on_join_room.md")]
            pub fn on_join_room(&self, hook: impl Fn(&Room, &SocketId) + Send + Sync + 'static) -> &Self {
                self.on_room_change(move |change| {
                    if let RoomChange::Joined { room, socket, .. } = change {
                        hook(room, socket);
                    }
                })
            }

            #[doc = include_str!("../../../docs/on_leave_room.md")]
            pub fn on_leave_room(&self, hook: impl Fn(&Room, &SocketId) + Send + Sync + 'static) -> &Self {
                self.on_room_change(move |change| {
                    if let RoomChange::Left { room, socket, .. } = change {
                        hook(room, socket);
                    }
                })
            }

            #[doc = include_str!("../../../docs/presence.md")]
            pub fn presence(&self, presence: Presence) -> &Self {
                let $this = self;
                $hooks.add(Arc::new(presence));
                self
            }
        }
    };
}

room_hooks!(NamespaceHandle, |namespace| namespace.state.room_hooks);
room_hooks!(Io, |io| io.main().state.room_hooks);
