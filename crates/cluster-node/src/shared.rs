//! State that a cluster shares with its task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roomcast_cluster_task::reply::{self, AnswerMemory, Members, Missing, ReplyReceiver, ReplySender};
use roomcast_cluster_task::{HostGuard, Inlet, Status, clock};
use roomcast_core::{PublishRefusal, Published, RequestTimes};
use roomcast_node_adapter::{
    AdapterMetrics, ClassicConfig, ShardedConfig, StreamsConfig, cluster_uid, node_uid,
};
use tokio::sync::watch;

use crate::batch::Batch;
use crate::config::NodeClusterConfig;
use crate::input::{AnswerPart, Input, Key, Publication, Queued, StreamPosition};

/// State that a cluster, its namespaces and its task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inlet: Inlet<Input>,
    pub(crate) classic: Arc<ClassicConfig>,
    /// Settings of the sharded adapter, if that is the adapter.
    pub(crate) sharded: Option<Arc<ShardedConfig>>,
    /// Settings of the streams adapter, if that is the adapter.
    pub(crate) streams: Option<Arc<StreamsConfig>>,
    /// Position in the stream after the last turn of the task.
    pub(crate) position: watch::Sender<StreamPosition>,
    /// Id of this node in all its namespaces.
    pub(crate) uid: String,
    pub(crate) max_publication: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) status: Status,
    pub(crate) guard: HostGuard,
    pub(crate) answers: Arc<AnswerMemory>,
    /// Counters and gauges after the last turn of the task.
    stats: Mutex<Stats>,
    last_number: AtomicU64,
}

/// Counters and gauges of the task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    pub(crate) namespaces: usize,
    pub(crate) unconfirmed: usize,
    pub(crate) queue_len: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) pending_requests: usize,
    pub(crate) handlers: usize,
    pub(crate) silent: usize,
    /// Sum of all namespaces, closed ones included.
    pub(crate) adapter: AdapterMetrics,
    /// With the sharded adapter.
    pub(crate) rooms: Option<RoomStats>,
    /// With the streams adapter.
    pub(crate) stream: Option<StreamStats>,
    /// Signs of servers with another adapter or mode.
    pub(crate) mixed: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) oversized: u64,
    /// Interruptions of subscriptions that the engine renewed by itself.
    pub(crate) interruptions: u64,
    pub(crate) requests_complete: u64,
    pub(crate) request_times: RequestTimes,
    pub(crate) counts_failed: u64,
    pub(crate) answers_dropped: u64,
    pub(crate) handlers_refused: u64,
    /// Accepted publications that the task did not pass to the engine.
    pub(crate) dropped: u64,
    /// Publications that the engine lost.
    pub(crate) lost: u64,
    pub(crate) subscribe_retries: u64,
    pub(crate) disconnects: u64,
}

/// Channels of rooms.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoomStats {
    pub(crate) channels: usize,
    pub(crate) unconfirmed: usize,
}

/// Counters and gauges of the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamStats {
    /// Entries passed to the engine, repeated ones included.
    pub(crate) appended: u64,
    /// Entries whose events took effect on this node before they were stored.
    pub(crate) delivered_before: u64,
    pub(crate) refused: u64,
    /// Entries without an answer that were found in the stream.
    pub(crate) found: u64,
    /// Entries without an answer that were appended again.
    pub(crate) repeated: u64,
    pub(crate) waiting: usize,
    pub(crate) gaps: u64,
    pub(crate) unreadable: u64,
    pub(crate) disconnects: u64,
    pub(crate) entries: u64,
    /// Time between the first and the last entry.
    pub(crate) span: Duration,
    /// Smallest limit of another writer, 0 if none was noticed.
    pub(crate) smallest_max_len: u64,
}

/// Members of a cluster whose nodes have no names.
struct Unknown;

impl Members for Unknown {
    fn all_missing(&self) -> Missing {
        Missing { number: None, names: Vec::new() }
    }
}

impl Shared {
    /// Returns the prefix of all channels.
    pub(crate) fn prefix(&self) -> &str {
        match (&self.streams, &self.sharded) {
            (Some(streams), _) => &streams.prefix,
            (None, Some(sharded)) => &sharded.prefix,
            (None, None) => &self.classic.prefix,
        }
    }

    /// Returns whether the adapter is the classic one.
    pub(crate) fn is_classic(&self) -> bool {
        self.sharded.is_none() && self.streams.is_none()
    }

    pub(crate) fn new(config: &NodeClusterConfig) -> Arc<Self> {
        Arc::new(Self {
            inlet: Inlet::new(config.queue_bytes),
            classic: Arc::new(config.classic.clone()),
            uid: match (&config.streams, &config.sharded) {
                (None, None) => node_uid(clock::random()),
                _ => cluster_uid(clock::random()),
            },
            sharded: config.sharded.clone().map(Arc::new),
            streams: config.streams.clone().map(Arc::new),
            position: watch::Sender::default(),
            max_publication: config.max_publication,
            join_timeout: config.join_timeout,
            status: Status::default(),
            guard: HostGuard::default(),
            answers: Arc::new(AnswerMemory::new(config.answer_bytes)),
            stats: Mutex::new(Stats {
                stream: config.streams.is_some().then(StreamStats::default),
                ..Stats::default()
            }),
            last_number: AtomicU64::new(0),
        })
    }

    /// Queues a publication, or returns why it is refused.
    pub(crate) fn publish(&self, composed: Publication<'_>) -> Published {
        let refuse = |refusal| {
            self.inlet.count_refusal();
            Published::Refused(refusal)
        };
        let Ok((queued, bytes)) = composed else { return refuse(PublishRefusal::Unsupported) };
        if bytes > self.max_publication {
            return refuse(PublishRefusal::TooLarge);
        }
        let pushed = match queued {
            Queued::Alone(input) => self.inlet.push(input, bytes),
            Queued::Shared(message) => self.inlet.push_with(bytes, |last| {
                if let Some(Input::PublishAll(batch)) = last
                    && batch.push(&message)
                {
                    return None;
                }
                let mut batch = Batch::default();
                batch.push(&message);
                Some(Input::PublishAll(batch))
            }),
        };
        match pushed {
            Ok(()) => Published::Accepted,
            Err(refusal) => Published::Refused(refusal),
        }
    }

    /// Returns a new number for a namespace or a request.
    pub(crate) fn next_number(&self) -> Key {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Creates both ends of a new request's answers.
    pub(crate) fn answer_channel(&self) -> (ReplySender<AnswerPart>, ReplyReceiver<AnswerPart>) {
        reply::channel(self.next_number(), &self.answers, Arc::new(Unknown))
    }

    pub(crate) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
