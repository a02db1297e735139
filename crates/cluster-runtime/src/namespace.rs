//! Namespace of a connection, as the server sees it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::{ClusterRequest, Publication};
use roomcast_cluster_task::RemoteSocket;
use roomcast_cluster_task::reply::{Members as _, Missing, ReplyReceiver};
use roomcast_core::{
    Args, ClusterNamespace, ClusterPresence, Confirming, Event, Heard, MemberKey, Membership, Namespace,
    PresenceMember, PublishRefusal, Published, QueryError, RemoteAnswers, Room, SocketId, SocketInfo, Target,
    Unconfirmed,
};
use tokio::sync::oneshot;

use crate::body::{self, AckPart, BodyError, Found, publication, request};
use crate::input::{Input, PresenceNews};
use crate::shared::{Shared, count};

/// Namespace of a [`ClusterConnection`](crate::ClusterConnection).
#[derive(Debug)]
pub(crate) struct OpenNamespace {
    namespace: Namespace,
    shared: Arc<Shared>,
}

impl OpenNamespace {
    pub(crate) fn new(namespace: Namespace, shared: Arc<Shared>) -> Self {
        Self { namespace, shared }
    }

    fn publish(&self, target: &Target, kind: u32, body: impl FnOnce() -> Bytes) -> Published {
        if self.is_alone() {
            return Published::NotNeeded;
        }
        self.shared.publish(Publication {
            namespace: self.namespace.clone(),
            rooms: target.rooms.clone(),
            except: target.except.clone(),
            kind,
            body: body(),
        })
    }

    /// Sends a request; `None` if there is no other node.
    fn request(
        &self,
        kind: u32,
        timeout: Duration,
        body: impl FnOnce() -> Bytes,
    ) -> Option<Result<Replies<'_>, Missing>> {
        if self.is_alone() {
            return None;
        }
        let body = body();
        if body.len() + REQUEST_FIELDS > self.shared.limits.max_publication {
            self.shared.inlet.count_refusal();
            return Some(Err(self.shared.peers.all_missing()));
        }
        let bytes = self.shared.queued_len(body.len() + REQUEST_FIELDS);
        let (key, sender, receiver) = self.shared.answer_channel();
        let request = ClusterRequest { to: None, kind, body, timeout };
        match self.shared.inlet.push(Input::Request { request, reply: sender }, bytes) {
            Ok(()) => Some(Ok(Replies { receiver, key, shared: &self.shared })),
            Err(_) => Some(Err(self.shared.peers.all_missing())),
        }
    }

    /// Sends a request, and collects the answers that `read` appends to its first argument.
    async fn query<T>(
        &self,
        kind: u32,
        timeout: Duration,
        body: impl FnOnce() -> Bytes + Send,
        mut read: impl FnMut(&mut Vec<T>, Bytes) -> Result<(), BodyError> + Send,
    ) -> Result<Vec<T>, QueryError<T>>
    where
        T: Send,
    {
        let mut answers = Vec::new();
        let missing = match self.request(kind, timeout, body) {
            None => return Ok(answers),
            Some(Err(missing)) => missing,
            Some(Ok(replies)) => loop {
                match replies.next().await {
                    Ok(part) => {
                        if read(&mut answers, part).is_err() {
                            count(&self.shared.counters.unreadable);
                        }
                    }
                    Err(missing) => break missing,
                }
            },
        };
        missing.result(answers)
    }

    /// Reports news of a room with presence; returns `false` if the task has ended.
    fn report(&self, room: &Room, news: PresenceNews) -> bool {
        let (namespace, room) = (self.namespace.clone(), room.clone());
        self.shared.inlet.push_unbounded(Input::Presence { namespace, room, news })
    }

    fn socket(&self, found: Found) -> SocketInfo {
        let Found { id, rooms, handshake, data } = found;
        let shared = self.shared.clone();
        let namespace = self.namespace.clone();
        let disconnect = move |id: &SocketId, close| {
            shared.disconnect_remote(&namespace, Room::from(id.as_str()), close);
        };
        let control = RemoteSocket::new(id.clone(), handshake, data, disconnect);
        SocketInfo { key: None, id, rooms, control: Some(Arc::new(control)) }
    }
}

// Members and rooms bound the number of these inputs, like that of changed rooms.
impl ClusterPresence for OpenNamespace {
    fn joined(&self, room: &Room, key: MemberKey, member: PresenceMember) -> bool {
        self.report(room, PresenceNews::Joined { key, member })
    }

    fn data_changed(&self, room: &Room, key: MemberKey, data: ByteString) {
        self.report(room, PresenceNews::DataChanged { key, data });
    }

    fn left(&self, room: &Room, key: MemberKey, data: Option<ByteString>) {
        self.report(room, PresenceNews::Left { key, data });
    }

    fn refresh(&self, room: &Room) {
        self.report(room, PresenceNews::Refresh);
    }
}

#[async_trait]
impl ClusterNamespace for OpenNamespace {
    fn is_alone(&self) -> bool {
        self.shared.peers.is_alone()
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Published {
        self.publish(target, publication::EVENT, || body::encode_event(target, event))
    }

    fn update(&self, target: &Target, change: &Membership) -> Published {
        let (Membership::Join(rooms) | Membership::Leave(rooms)) = change;
        if rooms.len() > Publication::MAX_ROOMS {
            self.shared.inlet.count_refusal();
            return Published::Refused(PublishRefusal::TooManyRooms);
        }
        self.publish(target, publication::UPDATE, || body::encode_change(change))
    }

    fn disconnect(&self, target: &Target, close: bool) -> Published {
        self.publish(target, publication::DISCONNECT, || body::encode_close(close))
    }

    fn server_side_emit(&self, name: &ByteString, args: &Args) -> Published {
        let body = || body::encode_server_event(name, args);
        self.publish(&Target::default(), publication::SERVER_EVENT, body)
    }

    fn confirming(&self) -> Box<dyn Confirming> {
        let lost = self.shared.counters.lost.load(Ordering::Relaxed);
        Box::new(PendingConfirm { shared: self.shared.clone(), lost })
    }

    async fn heard(&self, room: Option<&Room>) -> Heard {
        let (reply, heard) = oneshot::channel();
        let (namespace, room) = (self.namespace.clone(), room.cloned());
        if !self.shared.inlet.push_unbounded(Input::Heard { namespace, room, reply }) {
            return Heard::Left;
        }
        heard.await.unwrap_or(Heard::Left)
    }

    fn room_created(&self, room: &Room) {
        let (namespace, room) = (self.namespace.clone(), room.clone());
        self.shared.inlet.push_unbounded(Input::Created { namespace, room });
    }

    fn room_deleted(&self, room: &Room) {
        let (namespace, room) = (self.namespace.clone(), room.clone());
        self.shared.inlet.push_unbounded(Input::Deleted { namespace, room });
    }

    async fn fetch(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>> {
        let body = || body::encode_query(&self.namespace, target);
        self.query(request::FETCH, timeout, body, |sockets, part| {
            let found = body::decode_sockets(part)?;
            sockets.extend(found.into_iter().map(|found| self.socket(found)));
            Ok(())
        })
        .await
    }

    async fn count(&self, target: &Target, timeout: Duration) -> Result<Vec<usize>, QueryError<usize>> {
        let body = || body::encode_query(&self.namespace, target);
        self.query(request::COUNT, timeout, body, |counts, part| {
            counts.push(body::decode_count(part)?);
            Ok(())
        })
        .await
    }

    async fn server_side_emit_with_ack(
        &self,
        name: &ByteString,
        args: &Args,
        timeout: Duration,
    ) -> Result<Vec<Args>, QueryError<Args>> {
        let event = Event::new(self.namespace.clone(), name.clone(), args.clone());
        let body = || body::encode_event_query(&self.namespace, &Target::default(), &event);
        self.query(request::SERVER_EVENT, timeout, body, |answers, part| {
            if let AckPart::Answered { args, .. } = AckPart::decode(part)? {
                answers.push(args);
            }
            Ok(())
        })
        .await
    }

    async fn broadcast_with_ack(
        &self,
        target: &Target,
        event: &Event,
        timeout: Duration,
        answers: &dyn RemoteAnswers,
    ) -> Result<(), QueryError<()>> {
        let body = || body::encode_event_query(&self.namespace, target, event);
        self.query(request::EVENT, timeout, body, |_: &mut Vec<()>, part| {
            match AckPart::decode(part)? {
                AckPart::Recipients(recipients) => answers.requested(recipients),
                AckPart::Answered { socket, args } => answers.answered(socket, args),
                AckPart::Unanswered { socket } => answers.unanswered(socket),
            }
            Ok(())
        })
        .await
        .map(|_| ())
    }

    fn presence(&self) -> Option<&dyn ClusterPresence> {
        Some(self)
    }

    fn close(&self) {
        self.shared.inlet.push_unbounded(Input::Close { namespace: self.namespace.clone() });
    }
}

/// Confirmation of publications, with the number of lost ones when it began.
#[derive(Debug)]
struct PendingConfirm {
    shared: Arc<Shared>,
    lost: u64,
}

#[async_trait]
impl Confirming for PendingConfirm {
    async fn confirm(self: Box<Self>, timeout: Duration) -> Result<(), Unconfirmed> {
        let (reply, confirmed) = oneshot::channel();
        if !self.shared.inlet.push_unbounded(Input::Confirm { lost: self.lost, reply }) {
            return Err(PublishRefusal::Left.into());
        }
        match tokio::time::timeout(timeout, confirmed).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(PublishRefusal::QueueFull.into()),
            Ok(Err(_)) => Err(PublishRefusal::Left.into()),
            Err(_) => Err(Unconfirmed::TimedOut),
        }
    }
}

/// Answers of a request; dropping it withdraws the request.
struct Replies<'a> {
    receiver: ReplyReceiver<Bytes>,
    key: u64,
    shared: &'a Shared,
}

impl Replies<'_> {
    /// Returns the next part, or at the end the nodes that did not answer.
    async fn next(&self) -> Result<Bytes, Missing> {
        poll_fn(|cx| self.receiver.poll_next(cx)).await
    }
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        if self.receiver.close() {
            self.shared.inlet.push_unbounded(Input::Cancel { key: self.key });
        }
    }
}

/// Bytes of a request's own fields, at most.
const REQUEST_FIELDS: usize = 96;
