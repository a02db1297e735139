//! Who is in a room, told to those who are in it

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{
    Args, ArgsError, Delivery, Event, Found, IntoArgs, MemberControl, Overflow, Room, RoomChange, SocketId,
    Target,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::log_limit::log_limited;
use crate::pace;
use crate::room_hooks::{RoomHook, RoomsOf};
use crate::socket::Socket;

/// Who is in a room, told to those who are in it
///
/// Given to [`Io::presence`](crate::Io::presence) or
/// [`NamespaceHandle::presence`](crate::NamespaceHandle::presence). Clients then get three events:
///
/// | Event | To whom | Arguments |
/// | --- | --- | --- |
/// | `presence:state` | whoever has joined | the room, and a list of all who are in it |
/// | `presence:join` | the others in the room | the room, and who has joined |
/// | `presence:leave` | those who are left | the room, and who has left or is gone, however it went |
///
/// Each who is `{"id": …}`, and has `data` too where that is [asked for](Self::with_data). Every join and every leave
/// is told once to each of the others, and the state fits the notices that follow it. A notice that comes before the
/// state, from somebody who came at the same moment, is in the state already.
///
/// It knows the clients of this node.
///
/// ```
/// use roomcast_server::{Io, Presence};
///
/// let io = Io::new();
/// io.presence(Presence::in_rooms(|room| room.as_str().starts_with("game:")).with_data());
/// ```
///
/// The state grows with the room, so in a room of thousands that many come to at once, leave it
/// [out](Self::without_state) and count.
#[must_use = "it has to be given to a server or a namespace"]
pub struct Presence {
    choice: Arc<Choice>,
    names: Names,
    with_data: bool,
    with_state: bool,
    /// Who is where, by what was told
    present: Mutex<HashMap<Room, Members>>,
}

type Choice = dyn Fn(&Room) -> bool + Send + Sync;
type Members = HashMap<SocketId, Option<Arc<dyn MemberControl>>>;

/// How the events are called
#[derive(Clone)]
struct Names {
    state: Arc<str>,
    join: Arc<str>,
    leave: Arc<str>,
}

impl Presence {
    /// In one room
    pub fn in_room(room: impl Into<Room>) -> Self {
        let room = room.into();
        Self::in_rooms(move |other| *other == room)
    }

    /// In the rooms that this function chooses; it is asked often, so it should be quick
    ///
    /// It is asked where rooms change, as [`on_room_change`](crate::Io::on_room_change) is called: it may join and leave
    /// rooms, must not block, and should always say the same of a room. It is not asked about rooms that bear the ids
    /// of their sockets.
    pub fn in_rooms(choice: impl Fn(&Room) -> bool + Send + Sync + 'static) -> Self {
        let names = Names {
            state: "presence:state".into(),
            join: "presence:join".into(),
            leave: "presence:leave".into(),
        };
        let choice = Arc::new(choice);
        Self { choice, names, with_data: false, with_state: true, present: Mutex::default() }
    }

    /// Calls the events otherwise
    pub fn named(mut self, state: &str, join: &str, leave: &str) -> Self {
        self.names = Names { state: state.into(), join: join.into(), leave: leave.into() };
        self
    }

    /// Tells what is [kept](Socket::set_data) with a socket, too, as it is when it is told
    ///
    /// Everybody in the room sees it.
    pub fn with_data(mut self) -> Self {
        self.with_data = true;
        self
    }

    /// Tells nobody who is in the room already, only who comes and goes
    pub fn without_state(mut self) -> Self {
        self.with_state = false;
        self
    }

    fn joined(
        &self,
        rooms: &RoomsOf,
        room: &Room,
        socket: &SocketId,
        control: Option<Arc<dyn MemberControl>>,
    ) -> Result<(), ArgsError> {
        let (who, state) = {
            let mut present = self.present();
            let members = present.entry(room.clone()).or_default();
            if members.insert(socket.clone(), control.clone()).is_some() {
                return Ok(());
            }
            let who = self.describe(socket, control.as_ref());
            let all = members.iter().map(|(id, control)| self.describe(id, control.as_ref()));
            (who, self.with_state.then(|| all.collect::<Vec<_>>()))
        };
        if let Some(state) = state
            && let Some(newcomer) = control.and_then(Socket::from_control)
        {
            let mut event = self.event(rooms, &self.names.state, (room.as_str(), &state).into_args()?);
            newcomer.hand(Delivery::Reliable, Overflow::Inherit, &mut event);
        }
        self.tell(rooms, &self.names.join, room, socket, &who)
    }

    fn left(&self, rooms: &RoomsOf, room: &Room, socket: &SocketId) -> Result<(), ArgsError> {
        let control = {
            let mut present = self.present();
            let Some(members) = present.get_mut(room) else { return Ok(()) };
            let Some(control) = members.remove(socket) else { return Ok(()) };
            if members.is_empty() {
                present.remove(room);
            }
            control
        };
        let who = self.describe(socket, control.as_ref());
        self.tell(rooms, &self.names.leave, room, socket, &who)
    }

    fn tell(
        &self,
        rooms: &RoomsOf,
        name: &Arc<str>,
        room: &Room,
        socket: &SocketId,
        who: &Who,
    ) -> Result<(), ArgsError> {
        let event = self.event(rooms, name, (room.as_str(), who).into_args()?);
        let target = Target { rooms: vec![room.clone()], except: vec![socket.into()], ..Target::default() };
        if let Some(router) = rooms.router() {
            pace::settle(router.broadcast(&target, &event), &event.name);
        }
        Ok(())
    }

    fn event(&self, rooms: &RoomsOf, name: &Arc<str>, args: Args) -> Event {
        Event::new(rooms.namespace.clone(), &**name, args)
    }

    fn describe(&self, id: &SocketId, control: Option<&Arc<dyn MemberControl>>) -> Who {
        let data = control.filter(|_| self.with_data).map(|control| control.data());
        Who { id: id.clone(), data: data.and_then(|data| RawValue::from_string(data.to_string()).ok()) }
    }

    fn chooses(&self, room: &Room, socket: &SocketId) -> bool {
        room.as_str() != socket.as_str() && (self.choice)(room)
    }

    fn present(&self) -> MutexGuard<'_, HashMap<Room, Members>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomHook for Presence {
    fn begin(&self, rooms: &RoomsOf) {
        let Some(router) = rooms.router() else { return };
        // Asked under no lock, since the answer may change rooms. A room that comes about meanwhile is not asked for:
        // rooms are watched by now, so whoever joins it is told of.
        let there = router.find(&Target::default());
        let own = |found: &Found, room: &Room| room.as_str() == found.id.as_str();
        let names = there.iter().flat_map(|found| found.rooms.iter().filter(|room| !own(found, room)));
        let mut names: HashSet<Room> = names.cloned().collect();
        names.retain(|room| (self.choice)(room));
        // Whoever leaves from here on waits until all that are found are noted, so none stays behind.
        let mut present = self.present();
        for found in router.find(&Target::default()) {
            for room in found.rooms.iter().filter(|room| !own(&found, room) && names.contains(*room)) {
                let members = present.entry(room.clone()).or_default();
                members.insert(found.id.clone(), found.control.clone());
            }
        }
    }

    fn changed(&self, rooms: &RoomsOf, change: &RoomChange) {
        let told = match change {
            RoomChange::Joined { room, socket, control } if self.chooses(room, socket) => {
                self.joined(rooms, room, socket, control.clone())
            }
            RoomChange::Left { room, socket } if self.chooses(room, socket) => self.left(rooms, room, socket),
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
        f.debug_struct("Presence").field("rooms", &self.present().len()).finish_non_exhaustive()
    }
}

/// A member as clients are told
#[derive(Serialize)]
struct Who {
    #[serde(serialize_with = "as_text")]
    id: SocketId,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

fn as_text<S: serde::Serializer>(id: &SocketId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}
