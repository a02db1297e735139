//! State that a connection shares with its task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use roomcast_cluster::{ClusterConfig, ClusterMetrics, NodeId, Publication};
use roomcast_cluster_task::reply::{self, AnswerMemory, ReplyReceiver, ReplySender};
use roomcast_cluster_task::{HostGuard, Inlet, Status};
use roomcast_core::{PublishRefusal, Published, Room};

use crate::body;
use crate::input::Input;
use crate::peers::Peers;

/// State that a connection, its namespaces and its task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inlet: Inlet<Input>,
    pub(crate) limits: Limits,
    pub(crate) id: NodeId,
    pub(crate) tag: String,
    pub(crate) peers: Arc<Peers>,
    pub(crate) status: Status,
    /// Counters of the node after the last turn of the task.
    pub(crate) node_metrics: Mutex<ClusterMetrics>,
    pub(crate) counters: Counters,
    pub(crate) guard: HostGuard,
    pub(crate) answers: Arc<AnswerMemory>,
    last_key: AtomicU64,
}

/// Limits that are checked when something is published.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) max_publication: usize,
    pub(crate) max_payload: usize,
}

/// Counters of the connection, in addition to [`ClusterMetrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Accepted publications that the node did not take.
    pub(crate) lost: AtomicU64,
    pub(crate) handlers: AtomicU64,
    pub(crate) handlers_refused: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) unwanted: AtomicU64,
    pub(crate) answers_dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: &ClusterConfig, id: NodeId) -> Arc<Self> {
        Arc::new(Self {
            inlet: Inlet::new(config.queue_bytes),
            limits: Limits {
                max_publication: config.max_publication,
                max_payload: config.max_payload.max(1 << 10),
            },
            id,
            tag: id.tag(),
            peers: Arc::default(),
            status: Status::default(),
            node_metrics: Mutex::default(),
            counters: Counters::default(),
            guard: HostGuard::default(),
            answers: Arc::new(AnswerMemory::new(config.reassembly_bytes)),
            last_key: AtomicU64::new(0),
        })
    }

    /// Queues a publication, or returns why it is refused.
    pub(crate) fn publish(&self, publication: Publication) -> Published {
        let most = publication.rooms.len().max(publication.except.len());
        if most > Publication::MAX_ROOMS {
            self.inlet.count_refusal();
            return Published::Refused(PublishRefusal::TooManyRooms);
        }
        let names = body::rooms_len(&publication.rooms) + body::rooms_len(&publication.except);
        let frame = publication.body.len() + names + publication.namespace.as_str().len() + FRAME_FIELDS;
        if frame > self.limits.max_publication {
            self.inlet.count_refusal();
            return Published::Refused(PublishRefusal::TooLarge);
        }
        // The node sends a publication to more rooms than these on one channel.
        let channels =
            if publication.rooms.len() > MAX_CHANNELS { 1 } else { publication.rooms.len().max(1) };
        let bytes = channels * self.queued_len(frame);
        match self.inlet.push(Input::Publish(Box::new(publication)), bytes) {
            Ok(()) => Published::Accepted,
            Err(refusal) => Published::Refused(refusal),
        }
    }

    /// Returns the bytes that a frame takes in the node's queue, at most.
    pub(crate) fn queued_len(&self, frame: usize) -> usize {
        frame + (frame / (self.limits.max_payload / 2) + 1) * FRAME_COST
    }

    /// Creates both ends of a new request's answers, and returns its number.
    pub(crate) fn answer_channel(&self) -> (u64, ReplySender<Bytes>, ReplyReceiver<Bytes>) {
        let key = self.last_key.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = reply::channel(key, &self.answers, self.peers.clone());
        (key, sender, receiver)
    }

    pub(crate) fn node_metrics(&self) -> MutexGuard<'_, ClusterMetrics> {
        self.node_metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a disconnect of one socket of another node.
    pub(crate) fn disconnect_remote(&self, namespace: &roomcast_core::Namespace, room: Room, close: bool) {
        let publication = Publication {
            namespace: namespace.clone(),
            rooms: vec![room],
            except: Vec::new(),
            kind: body::publication::DISCONNECT,
            body: body::encode_close(close),
        };
        self.publish(publication);
    }
}

/// Counts an occurrence.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Bytes of an answer's own fields, at most.
pub(crate) const ANSWER_FIELDS: usize = 96;
/// Bytes of a frame's own fields, at most.
const FRAME_FIELDS: usize = 96;
/// Memory of a queued frame without its bytes, and the fields of a part.
const FRAME_COST: usize = 128;
/// Channels on which the node sends one publication at most.
const MAX_CHANNELS: usize = 16;
