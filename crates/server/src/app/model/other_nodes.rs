//! Publications of a namespace to the other nodes of its cluster, and its host for theirs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_core::{
    AckRequest, AnswerSink, Args, ByteString, ClusterHost, ClusterNamespace, Confirming, Delivery, Event,
    Heard, MemberKey, Membership, Overflow, PresenceUpdate, Published, QueryError, RemoteAnswers, Room,
    RoomChange, RoomWatcher, Scope, SocketId, SocketInfo, Target, Unconfirmed,
};

use crate::app::model::cluster_link::ClusterHandle;
use crate::app::model::namespace_state::NamespaceState;
use crate::host::pace;
use crate::util::log_limit::log_limited;

impl NamespaceState {
    /// Connects the namespace to the other nodes, once; each thread calls it before it uses the namespace.
    #[inline]
    pub(crate) fn open(self: &Arc<Self>) {
        if self.link.is_closed() {
            self.connect_to_cluster();
        }
    }

    #[cold]
    fn connect_to_cluster(self: &Arc<Self>) {
        self.link.open(|ClusterHandle { cluster, filter }| {
            let host: Weak<dyn ClusterHost> = Arc::<Self>::downgrade(self);
            self.router.watch(Arc::new(Interest(Arc::downgrade(self))), *filter);
            let namespace = cluster.open(&self.name, host);
            if let Some(recovery) = &self.recovery
                && namespace.orders_events()
                && let Some(log) = namespace.event_log()
            {
                recovery.use_event_log(log);
            }
            namespace
        });
    }

    /// Waits until events of other nodes to the namespace arrive, or cannot be waited for any longer.
    pub(crate) async fn heard(self: Arc<Self>) {
        let Some(link) = self.link.get() else { return };
        if link.heard(None).await == Heard::Degraded {
            log_limited!(
                WARN, (), namespace = %self.name,
                "cluster does not respond: clients are accepted without events of other nodes"
            );
        }
        self.link.mark_heard();
    }

    /// Waits until events of other nodes to a room arrive.
    pub(crate) async fn heard_in(&self, room: &Room) -> Heard {
        match self.link.get() {
            Some(link) => link.heard(Some(room)).await,
            None => Heard::Confirmed,
        }
    }

    /// Publishes an event whose order the cluster determines; `None` if the server delivers it itself.
    ///
    /// After [`Published::Accepted`] the cluster delivers it on this node too.
    #[inline]
    pub(crate) fn order(&self, target: &Target, event: &Event) -> Option<Published> {
        let ordering = self.link.ordering()?;
        let is_ordered =
            target.scope == Scope::Cluster && target.delivery == Delivery::Reliable && event.ack.is_none();
        is_ordered.then(|| self.publish(ordering, target, event))
    }

    /// Publishes an event to one socket, as [`order`](Self::order) does, if it can then be recovered on all nodes.
    #[inline]
    pub(crate) fn order_for(
        &self,
        id: &SocketId,
        delivery: Delivery,
        overflow: Overflow,
        event: &Event,
    ) -> Option<Published> {
        if self.recovery.is_none() || self.link.ordering().is_none() {
            return None;
        }
        let target = Target { rooms: vec![Room::from(id)], delivery, overflow, ..Target::default() };
        self.order(&target, event)
    }

    /// Publishes an event to the other nodes.
    #[cold]
    pub(crate) fn publish(&self, others: &dyn ClusterNamespace, target: &Target, event: &Event) -> Published {
        match self.abroad(target) {
            Some(target) => others.broadcast(&target, event),
            None => others.broadcast(target, event),
        }
    }

    /// Returns the target for other nodes, if it differs: a skipped member is excluded by its id.
    fn abroad(&self, target: &Target) -> Option<Target> {
        let own = self.router.rooms_of(target.skip?).into_iter().next()?;
        let mut target = target.clone();
        target.except.push(own);
        Some(target)
    }

    /// Changes the rooms of matching sockets in the cluster; returns how many changed on this node.
    pub(crate) fn update(&self, target: &Target, change: &Membership) -> usize {
        if let Some(others) = self.link.others(target.scope) {
            let abroad = self.abroad(target);
            self.warn_if_refused(others.update(abroad.as_ref().unwrap_or(target), change), "change of rooms");
        }
        self.router.update(target, change)
    }

    /// Disconnects matching sockets in the cluster; returns how many on this node.
    pub(crate) fn disconnect(&self, target: &Target, close: bool) -> usize {
        if let Some(others) = self.link.others(target.scope) {
            let abroad = self.abroad(target);
            self.warn_if_refused(others.disconnect(abroad.as_ref().unwrap_or(target), close), "disconnect");
        }
        self.router.disconnect(target, close)
    }

    fn warn_if_refused(&self, published: Published, what: &'static str) {
        if let Some(refusal) = published.refusal() {
            log_limited!(
                WARN, what, namespace = %self.name, reason = %refusal, what,
                "not sent to other nodes of the cluster"
            );
        }
    }

    /// Returns matching sockets, in the cluster unless the target is local.
    pub(crate) async fn fetch(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>> {
        if let Some(children) = self.children() {
            let all = children.all();
            return merged(all.iter().map(|child| Box::pin(child.fetch(target, timeout)))).await;
        }
        let mut found = self.router.find(target);
        let Some(others) = self.link.others(target.scope) else { return Ok(found) };
        let abroad = self.abroad(target);
        match others.fetch(abroad.as_ref().unwrap_or(target), timeout).await {
            Ok(there) => {
                found.extend(there);
                Ok(found)
            }
            Err(mut error) => {
                found.append(&mut error.partial);
                Err(QueryError { partial: found, ..error })
            }
        }
    }

    /// Returns the numbers of matching sockets, one for each node and namespace.
    pub(crate) async fn count_all(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<usize>, QueryError<usize>> {
        if let Some(children) = self.children() {
            let all = children.all();
            return merged(all.iter().map(|child| Box::pin(child.count_all(target, timeout)))).await;
        }
        let here = self.count(target);
        let Some(others) = self.link.others(target.scope) else { return Ok(vec![here]) };
        let abroad = self.abroad(target);
        let counted = others.count(abroad.as_ref().unwrap_or(target), timeout).await;
        match counted {
            Ok(mut counts) => {
                counts.push(here);
                Ok(counts)
            }
            Err(mut error) => {
                error.partial.push(here);
                Err(error)
            }
        }
    }

    /// Returns the number of matching sockets on this node.
    fn count(&self, target: &Target) -> usize {
        match (&*target.rooms, &*target.except, target.skip) {
            ([], [], None) => self.router.stats().members,
            ([room], [], None) => self.router.count(room),
            _ => self.router.find(target).len(),
        }
    }

    /// Emits an event to other nodes, and passes the acknowledgements of their sockets to `answers`.
    pub(crate) async fn ask_others(
        &self,
        target: &Target,
        event: &Event,
        timeout: Duration,
        answers: &dyn RemoteAnswers,
    ) -> Result<(), QueryError<()>> {
        if let Some(children) = self.children() {
            let all = children.all();
            let asked = all.iter().map(|child| {
                let event = Event { namespace: child.name.clone(), ..event.clone() };
                let asked = async move { child.ask_others(target, &event, timeout, answers).await };
                Box::pin(async move { asked.await.map(|()| Vec::new()) })
            });
            return merged(asked).await.map(|_: Vec<()>| ());
        }
        let Some(others) = self.link.others(target.scope) else { return Ok(()) };
        let abroad = self.abroad(target);
        others.broadcast_with_ack(abroad.as_ref().unwrap_or(target), event, timeout, answers).await
    }

    /// Begins to confirm publications, before they are published; `None` without other nodes.
    pub(crate) fn confirming(&self) -> Option<Box<dyn Confirming>> {
        // The children of a parent share an engine, so that of any of them confirms the publications of all.
        let child = self
            .children()
            .and_then(|children| children.all().into_iter().find(|child| child.link.get().is_some()));
        Some(child.as_ref().map_or(&self.link, |child| &child.link).get()?.confirming())
    }

    /// Waits until the engine of the cluster has accepted a publication, whose confirmation began before it.
    pub(crate) async fn confirm(
        &self,
        published: Published,
        confirming: Option<Box<dyn Confirming>>,
        timeout: Duration,
    ) -> Result<(), Unconfirmed> {
        match published {
            Published::NotNeeded => return Ok(()),
            Published::Refused(refusal) => return Err(refusal.into()),
            Published::Accepted => {}
        }
        // The first child of a parent may have been opened meanwhile.
        match confirming.or_else(|| self.confirming()) {
            Some(confirming) => confirming.confirm(timeout).await,
            None => Ok(()),
        }
    }

    /// Returns the other nodes for events between servers, if there may be any.
    pub(crate) fn other_servers(&self) -> Option<&dyn ClusterNamespace> {
        self.link.others(Scope::Cluster)
    }

    /// Reports new data of a socket to the other nodes whose presence shows it.
    pub(crate) fn report_data(&self, key: MemberKey, data: impl FnOnce() -> ByteString) {
        if !self.link.shows_data() {
            return;
        }
        let Some(presence) = self.link.presence() else { return };
        let data = data();
        for room in self.router.rooms_of(key) {
            presence.data_changed(&room, key, data.clone());
        }
    }

    /// Emits to the servers of all other nodes.
    pub(crate) fn server_side_emit(&self, name: &ByteString, args: &Args) {
        if let Some(others) = self.other_servers() {
            self.warn_if_refused(others.server_side_emit(name, args), "server-side event");
        }
    }
}

/// Queries child namespaces, and combines their answers.
async fn merged<T, F>(queries: impl Iterator<Item = F>) -> Result<Vec<T>, QueryError<T>>
where
    F: Future<Output = Result<Vec<T>, QueryError<T>>>,
{
    let (mut all, mut missing, mut nodes) = (Vec::new(), Some(0), Vec::new());
    for found in futures_util::future::join_all(queries).await {
        match found {
            Ok(found) => all.extend(found),
            Err(error) => {
                // The same nodes serve all of them.
                missing = missing.zip(error.missing).map(|(one, other)| one.max(other));
                nodes
                    .extend(error.nodes.into_iter().filter(|node| !nodes.contains(node)).collect::<Vec<_>>());
                all.extend(error.partial);
            }
        }
    }
    match missing {
        Some(0) => Ok(all),
        _ => Err(QueryError { missing: missing.map(|number| number.max(nodes.len())), nodes, partial: all }),
    }
}

/// Notifies the cluster of rooms that get their first member or lose their last.
struct Interest(Weak<NamespaceState>);

impl RoomWatcher for Interest {
    fn room_changed(&self, change: &RoomChange) {
        let Some(state) = self.0.upgrade() else { return };
        let Some(link) = state.link.get() else { return };
        match change {
            RoomChange::Created { room } => link.room_created(room),
            RoomChange::Deleted { room } => link.room_deleted(room),
            RoomChange::Joined { .. } | RoomChange::Left { .. } | RoomChange::Present { .. } => {}
        }
    }
}

#[async_trait]
impl ClusterHost for NamespaceState {
    fn deliver(&self, target: &Target, event: &Event) -> usize {
        if self.recovery.is_none() && event.offset.is_some() {
            // As on Node, clients get no offset that they cannot use.
            let event = Event { offset: None, ..event.clone() };
            return pace::settle(self.dispatch_here(target, &event), &event.name).queued;
        }
        pace::settle(self.dispatch_here(target, event), &event.name).queued
    }

    fn deliver_with_ack(&self, target: &Target, mut event: Event, answers: Arc<dyn AnswerSink>) {
        event.ack = Some(AckRequest { id: self.next_ack(), answers });
        self.deliver(target, &event);
    }

    fn update(&self, target: &Target, change: &Membership) {
        self.router.update(target, change);
    }

    fn disconnect(&self, target: &Target, close: bool) {
        self.router.disconnect(target, close);
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.router.find(target)
    }

    fn count(&self, target: &Target) -> usize {
        self.count(target)
    }

    async fn server_side(&self, name: &ByteString, args: Args) -> Option<Args> {
        self.servers.handle(name, args).await
    }

    fn missed(&self, room: Option<&Room>) {
        if let Some(recovery) = &self.recovery {
            recovery.missed(room);
        }
    }

    fn presence(&self, room: &Room, update: PresenceUpdate) -> usize {
        self.room_hooks.remote(room, &update)
    }
}
