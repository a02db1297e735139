//! Nodes of a cluster in one process: linked routers of one namespace.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use async_trait::async_trait;
use roomcast_core::{
    Args, ByteString, Delivery, Dispatched, Event, JoinOutcome, Member, MemberControl, MemberKey, Membership,
    Overflow, Room, RoomWatcher, Router, RouterError, RouterStats, Scope, ServerSide, SocketId, SocketInfo,
    Target,
};
use roomcast_rooms::Rooms;

/// State shared by all nodes.
#[derive(Debug, Clone, Default)]
pub struct Cluster(Arc<Mutex<Vec<Arc<Node>>>>);

/// Node as seen by the others.
#[derive(Debug, Default)]
struct Node {
    rooms: Rooms,
    servers: OnceLock<Weak<dyn ServerSide>>,
}

/// Router of one node.
#[derive(Debug)]
pub struct Linked {
    own: Arc<Node>,
    cluster: Cluster,
}

impl Cluster {
    /// Returns the router of a new node.
    pub fn node(&self) -> Linked {
        let own = Arc::new(Node::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(own.clone());
        Linked { own, cluster: self.clone() }
    }
}

impl Linked {
    fn others(&self) -> Vec<Arc<Node>> {
        let nodes = self.cluster.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().filter(|node| !Arc::ptr_eq(node, &self.own)).cloned().collect()
    }

    fn named(&self, target: &Target) -> Vec<Arc<Node>> {
        if target.scope == Scope::Node { Vec::new() } else { self.others() }
    }
}

/// Socket of another node, as that node described it.
#[derive(Debug)]
struct Elsewhere {
    id: SocketId,
    node: Arc<Node>,
    handshake: ByteString,
    data: ByteString,
}

impl MemberControl for Elsewhere {
    fn handshake(&self) -> ByteString {
        self.handshake.clone()
    }

    fn data(&self) -> ByteString {
        self.data.clone()
    }

    fn disconnect(&self, close: bool) {
        let target = Target { rooms: vec![Room::from(&self.id)], ..Target::default() };
        self.node.rooms.disconnect(&target, close);
    }
}

#[async_trait]
impl Router for Linked {
    fn attach(&self, member: Member) -> MemberKey {
        self.own.rooms.attach(member)
    }

    fn detach(&self, key: MemberKey) -> bool {
        self.own.rooms.detach(key)
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        self.own.rooms.join(key, room)
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        self.own.rooms.leave(key, room)
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.own.rooms.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.own.rooms.count(room)
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        self.named(target).iter().for_each(|node| _ = node.rooms.broadcast(target, event).flush_backlog());
        self.own.rooms.broadcast(target, event)
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        self.own.rooms.send(member, delivery, overflow, event)
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        self.named(target).iter().for_each(|node| _ = node.rooms.update(target, change));
        self.own.rooms.update(target, change)
    }

    fn stats(&self) -> RouterStats {
        self.own.rooms.stats()
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.own.rooms.find(target)
    }

    async fn fetch(&self, target: &Target) -> Result<Vec<SocketInfo>, RouterError<SocketInfo>> {
        let mut all = self.find(target);
        for node in self.named(target) {
            for found in node.rooms.find(target) {
                let Some(control) = found.control else { continue };
                let (handshake, data) = (control.handshake(), control.data());
                let elsewhere = Elsewhere { id: found.id.clone(), node: node.clone(), handshake, data };
                all.push(SocketInfo { key: None, control: Some(Arc::new(elsewhere)), ..found });
            }
        }
        Ok(all)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.named(target).iter().for_each(|node| _ = node.rooms.disconnect(target, close));
        self.own.rooms.disconnect(target, close)
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>) {
        self.own.rooms.watch(watcher);
    }

    fn survey(&self) {
        self.own.rooms.survey();
    }

    fn listen(&self, servers: Weak<dyn ServerSide>) {
        let _ = self.own.servers.set(servers);
    }

    fn server_side_emit(&self, name: &ByteString, args: &Args) {
        for node in self.others() {
            let Some(servers) = node.servers.get().and_then(Weak::upgrade) else { continue };
            let (name, args) = (name.clone(), args.clone());
            tokio::spawn(async move { servers.server_side(&name, args).await });
        }
    }

    async fn server_side_emit_with_ack(
        &self,
        name: &ByteString,
        args: &Args,
    ) -> Result<Vec<Args>, RouterError<Args>> {
        let (mut partial, mut missing) = (Vec::new(), 0);
        for node in self.others() {
            let servers = node.servers.get().and_then(Weak::upgrade);
            let answer = match servers {
                Some(servers) => servers.server_side(name, args.clone()).await,
                None => None,
            };
            match answer {
                Some(answer) => partial.push(answer),
                None => missing += 1,
            }
        }
        if missing == 0 { Ok(partial) } else { Err(RouterError { missing, partial }) }
    }
}
