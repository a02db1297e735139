//! Namespace of a cluster, as the server sees it.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use roomcast_cluster_task::RemoteSocket;
use roomcast_cluster_task::reply::{Missing, ReplyReceiver};
use roomcast_core::{
    Args, ClusterNamespace, Confirming, Event, EventLog, Heard, Membership, PublishRefusal, Published,
    QueryError, RemoteAnswers, Room, SocketId, SocketInfo, Target, Unconfirmed,
};
use roomcast_node_adapter::{Answer, Query, Recipients, SocketDescription};
use tokio::sync::oneshot;

use crate::cost::MESSAGE_COST;
use crate::event_log::StreamEventLog;
use crate::input::{AnswerPart, ConfirmStart, Confirmation, Input, Key, Writer};
use crate::shared::Shared;
use crate::writer::flags;

/// Namespace of a [`NodeCluster`](crate::NodeCluster).
#[derive(Debug)]
pub(crate) struct OpenNamespace {
    key: Key,
    writer: Writer,
    /// With the streams adapter.
    log: Option<Arc<StreamEventLog>>,
    shared: Arc<Shared>,
}

impl OpenNamespace {
    pub(crate) fn new(key: Key, writer: Writer, shared: Arc<Shared>) -> Self {
        let log = match &writer {
            Writer::Streams(_) => Some(Arc::new(StreamEventLog::new(key, shared.clone()))),
            Writer::Classic(_) | Writer::Sharded(_) => None,
        };
        Self { key, writer, log, shared }
    }

    /// Sends a request, and collects the answers that `read` appends to its first argument.
    async fn query<T: Send>(
        &self,
        query: Query,
        timeout: Duration,
        mut read: impl FnMut(&mut Vec<T>, Answer) + Send,
    ) -> Result<Vec<T>, QueryError<T>> {
        let bytes = query_bytes(&query);
        let mut answers = Vec::new();
        if bytes > self.shared.max_publication {
            self.shared.inlet.count_refusal();
            return UNKNOWN.result(answers);
        }
        let (reply, receiver) = self.shared.answer_channel();
        let replies = Replies { receiver, key: self.key, number: reply.key(), shared: &self.shared };
        let input = Input::Request { key: self.key, query: Box::new(query), timeout, reply };
        if self.shared.inlet.push(input, bytes).is_err() {
            return UNKNOWN.result(answers);
        }
        loop {
            match replies.next().await {
                Ok(AnswerPart(answer)) => read(&mut answers, answer),
                Err(missing) => return missing.result(answers),
            }
        }
    }

    /// Subscribes to the channel of a room, or ends that. With other adapters, the host counts the members of a room
    /// when a message to it arrives.
    fn room_changed(&self, room: &Room, has_members: bool) {
        if let Some(channel) = self.writer.room_channel(room) {
            self.shared.inlet.push_unbounded(Input::Room { key: self.key, channel, has_members });
        }
    }

    fn socket(&self, found: SocketDescription) -> SocketInfo {
        let SocketDescription { id, rooms, handshake, data } = found;
        let (key, shared, writer) = (self.key, self.shared.clone(), self.writer.clone());
        let disconnect = move |id: &SocketId, close| {
            let recipients = Recipients { rooms: vec![Room::from(id.as_str())], except: Vec::new() };
            shared.publish(writer.disconnect(key, recipients, close));
        };
        let control = RemoteSocket::new(id.clone(), handshake, data, disconnect);
        SocketInfo { key: None, id, rooms, control: Some(Arc::new(control)) }
    }
}

#[async_trait]
impl ClusterNamespace for OpenNamespace {
    /// Returns `false`: servers that do not ask anything are unknown, so each broadcast has to be published.
    fn is_alone(&self) -> bool {
        false
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Published {
        self.shared.publish(self.writer.broadcast(self.key, target, event))
    }

    fn orders_events(&self) -> bool {
        self.log.is_some()
    }

    fn event_log(&self) -> Option<Arc<dyn EventLog>> {
        self.log.clone().map(|log| log as Arc<dyn EventLog>)
    }

    fn update(&self, target: &Target, change: &Membership) -> Published {
        self.shared.publish(self.writer.update(self.key, target.into(), change.clone()))
    }

    fn disconnect(&self, target: &Target, close: bool) -> Published {
        self.shared.publish(self.writer.disconnect(self.key, target.into(), close))
    }

    fn server_side_emit(&self, name: &ByteString, args: &Args) -> Published {
        self.shared.publish(self.writer.server_side_emit(name, args))
    }

    fn confirming(&self) -> Box<dyn Confirming> {
        let since = Arc::default();
        // A task that has ended refuses the confirmation too.
        self.shared.inlet.push_unbounded(Input::Confirming { since: Arc::clone(&since) });
        Box::new(PendingConfirm { shared: self.shared.clone(), since })
    }

    async fn heard(&self, room: Option<&Room>) -> Heard {
        // Without a channel, the subscription of the namespace is that of the room.
        let channel = room.and_then(|room| self.writer.room_channel(room));
        let (reply, heard) = oneshot::channel();
        if !self.shared.inlet.push_unbounded(Input::Heard { key: self.key, channel, reply }) {
            return Heard::Left;
        }
        match tokio::time::timeout(self.shared.join_timeout, heard).await {
            Ok(heard) => heard.unwrap_or(Heard::Left),
            Err(_) => Heard::Degraded,
        }
    }

    fn room_created(&self, room: &Room) {
        self.room_changed(room, true);
    }

    fn room_deleted(&self, room: &Room) {
        self.room_changed(room, false);
    }

    async fn fetch(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>> {
        self.query(Query::Fetch(target.into()), timeout, |sockets, answer| {
            if let Answer::Sockets(found) = answer {
                sockets.extend(found.into_iter().map(|found| self.socket(found)));
            }
        })
        .await
    }

    async fn count(&self, target: &Target, timeout: Duration) -> Result<Vec<usize>, QueryError<usize>> {
        self.query(Query::Count(target.into()), timeout, |counts, answer| {
            if let Answer::Count(count) = answer {
                counts.push(count);
            }
        })
        .await
    }

    async fn server_side_emit_with_ack(
        &self,
        name: &ByteString,
        args: &Args,
        timeout: Duration,
    ) -> Result<Vec<Args>, QueryError<Args>> {
        self.query(Query::ServerSide(name.clone(), args.clone()), timeout, |answers, answer| {
            if let Answer::ServerSide(args) = answer {
                answers.push(args);
            }
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
        let query = Query::Broadcast(target.into(), flags(target, event), event.clone());
        self.query(query, timeout, |_: &mut Vec<()>, answer| match answer {
            Answer::Recipients(recipients) => answers.requested(recipients),
            Answer::Ack(args) => answers.answered(None, args),
            _ => {}
        })
        .await
        .map(|_| ())
    }

    fn close(&self) {
        self.shared.inlet.push_unbounded(Input::Close { key: self.key });
    }
}

/// Confirmation of publications, with what the task had lost when it began.
#[derive(Debug)]
struct PendingConfirm {
    shared: Arc<Shared>,
    since: Arc<OnceLock<ConfirmStart>>,
}

#[async_trait]
impl Confirming for PendingConfirm {
    async fn confirm(self: Box<Self>, timeout: Duration) -> Result<(), Unconfirmed> {
        let (reply, confirmed) = oneshot::channel();
        if !self.shared.inlet.push_unbounded(Input::Confirm { since: self.since, reply }) {
            return Err(PublishRefusal::Left.into());
        }
        match tokio::time::timeout(timeout, confirmed).await {
            Ok(Ok(Confirmation::Accepted)) => Ok(()),
            Ok(Ok(Confirmation::Refused(reason))) => Err(Unconfirmed::RefusedByEngine { reason }),
            Ok(Err(_)) => Err(PublishRefusal::Left.into()),
            // The engine lost a connection before the reply.
            Ok(Ok(Confirmation::Lost)) | Err(_) => Err(Unconfirmed::TimedOut),
        }
    }
}

/// Answers of a request; dropping it withdraws the request.
struct Replies<'a> {
    receiver: ReplyReceiver<AnswerPart>,
    key: Key,
    number: u64,
    shared: &'a Shared,
}

impl Replies<'_> {
    /// Returns the next answer, or at the end the nodes that did not answer.
    async fn next(&self) -> Result<AnswerPart, Missing> {
        poll_fn(|cx| self.receiver.poll_next(cx)).await
    }
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        if self.receiver.close() {
            self.shared.inlet.push_unbounded(Input::Cancel { key: self.key, number: self.number });
        }
    }
}

/// Returns the bytes of a request in the queue, approximately.
pub(crate) fn query_bytes(query: &Query) -> usize {
    let rooms = |recipients: &Recipients| {
        let names = recipients.rooms.iter().chain(&recipients.except);
        // As text, and perhaps as a number.
        names.map(|room| 2 * room.as_str().len() + 16).sum::<usize>()
    };
    let content = match query {
        Query::Count(recipients) | Query::Fetch(recipients) => rooms(recipients),
        Query::ServerSide(name, args) => name.len() + args.byte_len(),
        Query::Broadcast(recipients, _, event) => {
            rooms(recipients) + event.name.len() + event.args.byte_len()
        }
        _ => 0,
    };
    content + 2 * MESSAGE_COST
}

/// A request that was not sent.
const UNKNOWN: Missing = Missing { number: None, names: Vec::new() };
