//! Presence: notifies the members of a room of its members, joins and leaves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{
    Args, ArgsError, ByteString, Delivery, Event, IntoArgs, MemberControl, MemberKey, Overflow,
    PresenceMember, PresenceUpdate, PresentMember, RemoteChange, RemoteKey, Room, RoomChange, SocketId,
    Target,
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
/// # Several nodes
///
/// In a [cluster](crate::config::IoBuilder::cluster) of Roomcast servers, the members of all nodes are shown, to the members
/// on all nodes; each node has to register the same presence. The changes of another node arrive in batches, by default of
/// 50 ms, without a member that joined and left again in between. If a node leaves, dies, or cannot be reached, its members
/// leave, and join again when it is back. The first member of a room on a node gets its state when the other nodes have
/// answered, after a second at most; members of nodes that have not answered join later. A node that has just started knows
/// the others after some milliseconds. Data is published to the other nodes as soon as it is [set](Socket::set_data).
///
/// A cluster with servers of Node does not carry presence, since these do not announce joins; the members of this node are
/// shown then. [Room hooks](crate::Io::on_room_change) always report this node only.
///
/// Each node keeps the members of all nodes in the rooms where it has members: about 200 bytes for each and its data.
///
/// # Examples
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

/// Members by room, as reported by the hooks and by other nodes.
#[derive(Default)]
struct Present {
    /// Rooms with members on this node.
    rooms: HashMap<Room, Known>,
    /// Whether the survey of existing rooms is complete; rooms created later are known from the start.
    surveyed: bool,
    /// Notices in the order of the changes.
    notices: VecDeque<Notice>,
    /// A thread sends the notices.
    is_sending: bool,
}

/// Known members of a room.
#[derive(Default)]
struct Known {
    members: Members,
    /// Whether `members` is complete; until then, changes send no events, since the survey is pending.
    all: bool,
    /// Members on other nodes.
    remote: BTreeMap<RemoteKey, Arc<PresenceMember>>,
    /// Whether `remote` was received, or there were no other nodes when a client got its state.
    is_synced: bool,
    /// Members whose state waits for `remote`.
    waiting: Vec<MemberKey>,
}

/// Members by key, since two members may share an id.
type Members = HashMap<MemberKey, Member>;

#[derive(Clone)]
struct Member {
    id: SocketId,
    control: Option<Arc<dyn MemberControl>>,
}

/// Event to send.
struct Notice {
    event: Event,
    to: Recipients,
}

enum Recipients {
    /// New member.
    One(Socket),
    /// Members of a room, except one.
    Room(Room, Option<MemberKey>),
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
        let mut present = self.present();
        let Present { rooms: all_rooms, surveyed, notices, .. } = &mut *present;
        let is_first = !all_rooms.contains_key(room);
        let known = all_rooms.entry(room.clone());
        let known = known.or_insert_with(|| Known { all: *surveyed, ..Known::default() });
        known.members.insert(key, member.clone());
        let is_shared = self.share(rooms, room, [(key, member)], is_first || known.members.len() == 1);
        if !known.all {
            return Ok(());
        }
        let waits = is_shared && !known.is_synced && !rooms.link.is_alone();
        if waits {
            known.waiting.extend(self.with_state.then_some(key));
        } else {
            // Later news of other nodes are changes.
            known.is_synced = true;
            if self.with_state
                && let Some(newcomer) = member.control.clone().and_then(Socket::from_control)
            {
                let event = self.state(rooms, room, known)?;
                notices.push_back(Notice { event, to: Recipients::One(newcomer) });
            }
        }
        let event = self.notice(rooms, &self.names.join, room, &self.describe(member))?;
        notices.push_back(Notice { event, to: Recipients::Room(room.clone(), Some(key)) });
        self.send(rooms, present);
        Ok(())
    }

    fn left(&self, rooms: &RoomsOf, room: &Room, key: MemberKey) -> Result<(), ArgsError> {
        let mut present = self.present();
        let Present { rooms: all_rooms, notices, .. } = &mut *present;
        let Some(known) = all_rooms.get_mut(room) else { return Ok(()) };
        let (member, all) = (known.members.remove(&key), known.all);
        known.waiting.retain(|waiting| *waiting != key);
        if known.members.is_empty() {
            all_rooms.remove(room);
        }
        let Some(member) = member else { return Ok(()) };
        if let Some(presence) = rooms.link.presence() {
            presence.left(room, key, self.data(&member));
        }
        if all {
            let event = self.notice(rooms, &self.names.leave, room, &self.describe(&member))?;
            notices.push_back(Notice { event, to: Recipients::Room(room.clone(), Some(key)) });
            self.send(rooms, present);
        }
        Ok(())
    }

    /// Takes the members of a room in a survey.
    fn surveyed_room(&self, rooms: &RoomsOf, room: &Room, members: &[PresentMember]) {
        let member = |present: &PresentMember| {
            (present.key, Member { id: present.socket.clone(), control: present.control.clone() })
        };
        let members: Members = members.iter().map(member).collect();
        self.share(rooms, room, members.iter().map(|(key, member)| (*key, member)), true);
        let mut present = self.present();
        let known = present.rooms.entry(room.clone()).or_default();
        (known.members, known.all) = (members, true);
    }

    /// Reports members of this node to the others; returns whether theirs follow.
    ///
    /// `is_first` is whether theirs are not known here.
    fn share<'a>(
        &self,
        rooms: &RoomsOf,
        room: &Room,
        members: impl IntoIterator<Item = (MemberKey, &'a Member)>,
        is_first: bool,
    ) -> bool {
        let Some(presence) = rooms.link.presence() else { return false };
        if self.with_data {
            rooms.link.show_data();
        }
        let mut is_shared = false;
        for (key, member) in members {
            let data = self.data(member);
            let shown = PresenceMember { id: member.id.clone(), data: data.clone() };
            is_shared = presence.joined(room, key, shown);
            // It may have been set in between.
            if let Some(newer) = self.data(member).filter(|newer| data.as_ref() != Some(newer)) {
                presence.data_changed(room, key, newer);
            }
        }
        if is_first {
            presence.refresh(room);
        }
        is_shared
    }

    /// Takes the members of a room on other nodes, or their changes.
    fn take(&self, rooms: &RoomsOf, room: &Room, update: &PresenceUpdate) -> Result<usize, ArgsError> {
        let mut present = self.present();
        let Present { rooms: all_rooms, notices, .. } = &mut *present;
        let Some(known) = all_rooms.get_mut(room) else { return Ok(0) };
        let before = notices.len();
        let changes = match update {
            PresenceUpdate::Changes(_) if !known.is_synced => return Ok(0),
            PresenceUpdate::Changes(changes) => changes.clone(),
            PresenceUpdate::Members(members) => differences(&known.remote, members),
        };
        let has_notices = known.all && known.is_synced;
        for change in changes {
            let (name, member) = match &change {
                RemoteChange::Joined(key, member) => {
                    if known.remote.insert(*key, member.clone()).is_some() {
                        continue;
                    }
                    (&self.names.join, member)
                }
                RemoteChange::Left(key, member) => {
                    if known.remote.remove(key).is_none() {
                        continue;
                    }
                    (&self.names.leave, member)
                }
                RemoteChange::DataChanged(key, member) => {
                    known.remote.entry(*key).and_modify(|known| *known = member.clone());
                    continue;
                }
            };
            if has_notices {
                let event = self.notice(rooms, name, room, &self.describe_remote(member))?;
                notices.push_back(Notice { event, to: Recipients::Room(room.clone(), None) });
            }
        }
        known.is_synced = true;
        let waiting = std::mem::take(&mut known.waiting);
        if !waiting.is_empty() {
            let event = self.state(rooms, room, known)?;
            let control = |key| known.members.get(&key).and_then(|member| member.control.clone());
            for newcomer in waiting.into_iter().filter_map(control).filter_map(Socket::from_control) {
                notices.push_back(Notice { event: event.clone(), to: Recipients::One(newcomer) });
            }
        }
        let clients = (notices.len() - before) * known.members.len();
        self.send(rooms, present);
        Ok(clients)
    }

    /// Sends the notices in order, unless another thread does.
    ///
    /// Without the lock, since outgoing listeners of the application may change rooms.
    fn send<'a>(&'a self, rooms: &RoomsOf, mut present: MutexGuard<'a, Present>) {
        if std::mem::replace(&mut present.is_sending, true) {
            return;
        }
        let reset = ResetSending(&self.present);
        while let Some(Notice { mut event, to }) = present.notices.pop_front() {
            drop(present);
            match to {
                Recipients::One(newcomer) => {
                    newcomer.hand(Delivery::Reliable, Overflow::Inherit, &mut event);
                }
                Recipients::Room(room, skip) => {
                    let target = Target { rooms: vec![room], skip, ..Target::default() };
                    if let Some(router) = rooms.router() {
                        pace::settle(router.broadcast(&target, &event), &event.name);
                    }
                }
            }
            present = self.present();
        }
        present.is_sending = false;
        std::mem::forget(reset);
    }

    fn state(&self, rooms: &RoomsOf, room: &Room, known: &Known) -> Result<Event, ArgsError> {
        let here = known.members.values().map(|member| self.describe(member));
        let there = known.remote.values().map(|member| self.describe_remote(member));
        let all: Vec<_> = here.chain(there).collect();
        Ok(self.event(rooms, &self.names.state, (room.as_str(), &all).into_args()?))
    }

    fn notice(
        &self,
        rooms: &RoomsOf,
        name: &Arc<str>,
        room: &Room,
        who: &PresentMemberJson,
    ) -> Result<Event, ArgsError> {
        Ok(self.event(rooms, name, (room.as_str(), who).into_args()?))
    }

    fn event(&self, rooms: &RoomsOf, name: &Arc<str>, args: Args) -> Event {
        Event::new(rooms.namespace.clone(), &**name, args)
    }

    /// Returns the data of a member, if it is shown.
    fn data(&self, member: &Member) -> Option<ByteString> {
        self.with_data.then(|| member.control.as_ref().map(|control| control.data()).unwrap_or_default())
    }

    fn describe(&self, member: &Member) -> PresentMemberJson {
        let data = member.control.as_ref().filter(|_| self.with_data).map(|control| control.data());
        PresentMemberJson { id: member.id.clone(), data: data.and_then(|data| json(&data)) }
    }

    fn describe_remote(&self, member: &PresenceMember) -> PresentMemberJson {
        let data = self.with_data.then(|| json(member.data.as_deref().unwrap_or_default())).flatten();
        PresentMemberJson { id: member.id.clone(), data }
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
        let Present { rooms, surveyed, .. } = &mut *self.present();
        rooms.retain(|_, known| !known.members.is_empty());
        // Rooms missing from the survey had no members at that time.
        rooms.values_mut().for_each(|known| known.all = true);
        *surveyed = true;
    }

    // The survey result is ordered with the changes of its room, so the known members are consistent with later events.
    fn changed(&self, rooms: &RoomsOf, change: &RoomChange) {
        let told = match change {
            RoomChange::Created { room } => {
                let Present { rooms, surveyed, .. } = &mut *self.present();
                if !*surveyed {
                    // A new room has no members to survey.
                    rooms.insert(room.clone(), Known { all: true, ..Known::default() });
                }
                Ok(())
            }
            RoomChange::Present { room, members } if (self.choice)(room) => {
                self.surveyed_room(rooms, room, members);
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

    fn remote(&self, rooms: &RoomsOf, room: &Room, update: &PresenceUpdate) -> usize {
        self.take(rooms, room, update).unwrap_or_else(|error| {
            log_limited!(ERROR, (), room = %room, %error, "presence data not serialisable");
            0
        })
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

/// Ends the sending of notices if it panics, such as in an outgoing listener.
struct ResetSending<'a>(&'a Mutex<Present>);

impl Drop for ResetSending<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_sending = false;
    }
}

/// Returns the changes that lead from the known members to these.
fn differences(
    known: &BTreeMap<RemoteKey, Arc<PresenceMember>>,
    members: &[(RemoteKey, Arc<PresenceMember>)],
) -> Vec<RemoteChange> {
    let present: HashMap<_, _> = members.iter().map(|(key, member)| (*key, member)).collect();
    let gone = known.iter().filter(|(key, _)| !present.contains_key(key));
    let gone = gone.map(|(key, member)| RemoteChange::Left(*key, member.clone()));
    let come = members.iter().map(|(key, member)| match known.get(key) {
        None => RemoteChange::Joined(*key, member.clone()),
        Some(_) => RemoteChange::DataChanged(*key, member.clone()),
    });
    gone.chain(come).collect()
}

/// Returns data as JSON. Unset data is an empty object, as on Node.
fn json(data: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(if data.is_empty() { "{}".to_owned() } else { data.to_owned() }).ok()
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
