//! Presence: notifies the members of a room of its members, joins and leaves.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{
    Args, ArgsError, Delivery, Event, IntoArgs, MemberControl, MemberKey, Overflow, PresentMember, Room,
    RoomChange, SocketId, Target,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::model::room_hooks::{RoomHook, RoomsOf};
use crate::app::model::socket::Socket;
use crate::host::pace;
use crate::util::log_limit::log_limited;

/// Notifies the clients in a room of its members, and of joins and leaves.
///
/// Register it with [`Io::presence`](crate::Io::presence) or
/// [`NamespaceHandle::presence`](crate::namespace::NamespaceHandle::presence). Clients then receive three events:
///
/// | Event | Recipients | Arguments |
/// | --- | --- | --- |
/// | `presence:state` | the new member | the room, and a list of all members |
/// | `presence:join` | the other members | the room, and the new member |
/// | `presence:leave` | the remaining members | the room, and the member that left or disconnected |
///
/// A member is `{"id": …}`, with `data` if [enabled](Self::with_data). Each other member receives every join and leave
/// once. The state is consistent with the events that follow it; a concurrent join received before the state is already
/// part of it.
///
/// Covers the clients of this node only.
///
/// ```
/// use roomcast_server::rooms::Presence;
/// use roomcast_server::Io;
///
/// let io = Io::new();
/// io.presence(Presence::in_rooms(|room| room.as_str().starts_with("game:")).with_data());
/// ```
///
/// The state grows with the room. For rooms with thousands of members and many simultaneous joins, [disable
/// it](Self::without_state) and send a count instead.
#[must_use = "does nothing until registered with a server or a namespace"]
pub struct Presence {
    choice: Arc<Choice>,
    names: Names,
    with_data: bool,
    with_state: bool,
    present: Mutex<Present>,
}

type Choice = dyn Fn(&Room) -> bool + Send + Sync;
/// Members by room, as reported by the hooks.
#[derive(Default)]
struct Present {
    /// Rooms with members.
    rooms: HashMap<Room, Known>,
    /// Whether the survey of existing rooms is complete; rooms created later are known from the start.
    surveyed: bool,
}

/// Known members of a room.
struct Known {
    members: Members,
    /// Whether `members` is complete; until then, changes send no events, since the survey is pending.
    all: bool,
}

/// Members by key, since two members may share an id.
type Members = HashMap<MemberKey, Member>;

#[derive(Clone)]
struct Member {
    id: SocketId,
    control: Option<Arc<dyn MemberControl>>,
}

/// Event names.
#[derive(Clone)]
struct Names {
    state: Arc<str>,
    join: Arc<str>,
    leave: Arc<str>,
}

impl Presence {
    /// Creates presence for a single room.
    pub fn in_room(room: impl Into<Room>) -> Self {
        let room = room.into();
        Self::in_rooms(move |other| *other == room)
    }

    /// Creates presence for the rooms that this predicate selects.
    ///
    /// The predicate runs on every room change, as an [`on_room_change`](crate::Io::on_room_change) hook. It should be
    /// quick, must not block, and should always return the same value for a room. It may join and leave rooms. It does
    /// not run for rooms named by the id of their socket.
    pub fn in_rooms(choice: impl Fn(&Room) -> bool + Send + Sync + 'static) -> Self {
        let names = Names {
            state: "presence:state".into(),
            join: "presence:join".into(),
            leave: "presence:leave".into(),
        };
        let choice = Arc::new(choice);
        Self { choice, names, with_data: false, with_state: true, present: Mutex::default() }
    }

    /// Sets the event names.
    pub fn named(mut self, state: &str, join: &str, leave: &str) -> Self {
        self.names = Names { state: state.into(), join: join.into(), leave: leave.into() };
        self
    }

    /// Includes the [user data](Socket::set_data) of each socket, as it is when the event is sent.
    ///
    /// The data is visible to all clients in the room.
    pub fn with_data(mut self) -> Self {
        self.with_data = true;
        self
    }

    /// Sends no `presence:state`, only joins and leaves.
    pub fn without_state(mut self) -> Self {
        self.with_state = false;
        self
    }

    fn joined(&self, rooms: &RoomsOf, room: &Room, key: MemberKey, member: &Member) -> Result<(), ArgsError> {
        let (who, state) = {
            let Present { rooms, surveyed } = &mut *self.present();
            let known = rooms.entry(room.clone());
            let known = known.or_insert_with(|| Known { members: Members::new(), all: *surveyed });
            known.members.insert(key, member.clone());
            if !known.all {
                return Ok(());
            }
            let all = known.members.values().map(|member| self.describe(member));
            (self.describe(member), self.with_state.then(|| all.collect::<Vec<_>>()))
        };
        if let Some(state) = state
            && let Some(newcomer) = member.control.clone().and_then(Socket::from_control)
        {
            let mut event = self.event(rooms, &self.names.state, (room.as_str(), &state).into_args()?);
            newcomer.hand(Delivery::Reliable, Overflow::Inherit, &mut event);
        }
        self.notify(rooms, &self.names.join, room, key, &who)
    }

    fn left(&self, rooms: &RoomsOf, room: &Room, key: MemberKey) -> Result<(), ArgsError> {
        let member = {
            let Present { rooms, .. } = &mut *self.present();
            let Some(known) = rooms.get_mut(room) else { return Ok(()) };
            let (member, all) = (known.members.remove(&key), known.all);
            if known.members.is_empty() {
                rooms.remove(room);
            }
            member.filter(|_| all)
        };
        match member {
            Some(member) => self.notify(rooms, &self.names.leave, room, key, &self.describe(&member)),
            None => Ok(()),
        }
    }

    fn notify(
        &self,
        rooms: &RoomsOf,
        name: &Arc<str>,
        room: &Room,
        but: MemberKey,
        who: &PresentMemberJson,
    ) -> Result<(), ArgsError> {
        let event = self.event(rooms, name, (room.as_str(), who).into_args()?);
        let target = Target { rooms: vec![room.clone()], skip: Some(but), ..Target::default() };
        if let Some(router) = rooms.router() {
            pace::settle(router.broadcast(&target, &event), &event.name);
        }
        Ok(())
    }

    fn event(&self, rooms: &RoomsOf, name: &Arc<str>, args: Args) -> Event {
        Event::new(rooms.namespace.clone(), &**name, args)
    }

    fn describe(&self, member: &Member) -> PresentMemberJson {
        let data = member.control.as_ref().filter(|_| self.with_data).map(|control| control.data());
        // Unset data is an empty object, as on Node.
        let json = data.map(|data| if data.is_empty() { "{}".to_owned() } else { data.to_string() });
        PresentMemberJson {
            id: member.id.clone(),
            data: json.and_then(|json| RawValue::from_string(json).ok()),
        }
    }

    fn chooses(&self, room: &Room, socket: &SocketId) -> bool {
        room.as_str() != socket.as_str() && (self.choice)(room)
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomHook for Presence {
    fn wants_survey(&self) -> bool {
        true
    }

    fn surveyed(&self) {
        let Present { rooms, surveyed } = &mut *self.present();
        rooms.retain(|_, known| !known.members.is_empty());
        // Rooms missing from the survey had no members at that time.
        rooms.values_mut().for_each(|known| known.all = true);
        *surveyed = true;
    }

    // The survey result is ordered with the changes of its room, so the known members are consistent with later events.
    fn changed(&self, rooms: &RoomsOf, change: &RoomChange) {
        let told = match change {
            RoomChange::Created { room } => {
                let Present { rooms, surveyed } = &mut *self.present();
                if !*surveyed {
                    // A new room has no members to survey.
                    rooms.insert(room.clone(), Known { members: Members::new(), all: true });
                }
                Ok(())
            }
            RoomChange::Present { room, members } if (self.choice)(room) => {
                let member = |present: &PresentMember| {
                    (present.key, Member { id: present.socket.clone(), control: present.control.clone() })
                };
                let known = Known { members: members.iter().map(member).collect(), all: true };
                self.present().rooms.insert(room.clone(), known);
                Ok(())
            }
            RoomChange::Joined { room, socket, key, control } if self.chooses(room, socket) => {
                let member = Member { id: socket.clone(), control: control.clone() };
                self.joined(rooms, room, *key, &member)
            }
            RoomChange::Left { room, socket, key } if self.chooses(room, socket) => {
                self.left(rooms, room, *key)
            }
            _ => Ok(()),
        };
        if let Err(error) = told {
            log_limited!(ERROR, (), room = %change.room(), %error, "presence data not serialisable");
        }
    }

    fn copy(self: Arc<Self>) -> Arc<dyn RoomHook> {
        let Self { choice, names, with_data, with_state, .. } = &*self;
        Arc::new(Self {
            choice: choice.clone(),
            names: names.clone(),
            with_data: *with_data,
            with_state: *with_state,
            present: Mutex::default(),
        })
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("rooms", &self.present().rooms.len()).finish_non_exhaustive()
    }
}

/// Member as serialised for clients.
#[derive(Serialize)]
struct PresentMemberJson {
    #[serde(serialize_with = "as_text")]
    id: SocketId,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

fn as_text<S: serde::Serializer>(id: &SocketId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}
