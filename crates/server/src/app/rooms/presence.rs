//! Who is in a room, told to those who are in it

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

/// Who is in a room, told to those who are in it
///
/// Given to [`Io::presence`](crate::Io::presence) or
/// [`NamespaceHandle::presence`](crate::namespace::NamespaceHandle::presence). Clients then get three events:
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
/// use roomcast_server::rooms::Presence;
/// use roomcast_server::Io;
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
    present: Mutex<Present>,
}

type Choice = dyn Fn(&Room) -> bool + Send + Sync;
/// Who is where, by what was told
#[derive(Default)]
struct Present {
    /// Rooms that have members
    rooms: HashMap<Room, Known>,
    /// The rooms that were there at the beginning have been reported, so that of all others the beginning was told
    surveyed: bool,
}

/// What is known of a room
struct Known {
    members: Members,
    /// These are all; until then nobody is told of its changes, since others are in it who are to be reported
    all: bool,
}

/// By key, since two members may have one id
type Members = HashMap<MemberKey, Member>;

#[derive(Clone)]
struct Member {
    id: SocketId,
    control: Option<Arc<dyn MemberControl>>,
}

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
        self.tell(rooms, &self.names.join, room, key, &who)
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
            Some(member) => self.tell(rooms, &self.names.leave, room, key, &self.describe(&member)),
            None => Ok(()),
        }
    }

    fn tell(
        &self,
        rooms: &RoomsOf,
        name: &Arc<str>,
        room: &Room,
        but: MemberKey,
        who: &Who,
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

    fn describe(&self, member: &Member) -> Who {
        let data = member.control.as_ref().filter(|_| self.with_data).map(|control| control.data());
        // Nothing is an empty object, as on Node.
        let json = data.map(|data| if data.is_empty() { "{}".to_owned() } else { data.to_string() });
        Who { id: member.id.clone(), data: json.and_then(|json| RawValue::from_string(json).ok()) }
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
        // What was not reported had no members when it was looked for.
        rooms.values_mut().for_each(|known| known.all = true);
        *surveyed = true;
    }

    // The report on a room takes its place among the changes of the room. So the members that are known and the notices
    // that follow fit, whoever comes and goes meanwhile.
    fn changed(&self, rooms: &RoomsOf, change: &RoomChange) {
        let told = match change {
            RoomChange::Created { room } => {
                let Present { rooms, surveyed } = &mut *self.present();
                if !*surveyed {
                    // Nobody is in it who would have to be reported.
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
