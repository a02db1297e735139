//! Log of a namespace, as the server sees it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use roomcast_core::{EventLog, EventLogError, LogQuery, MissedEvents};
use roomcast_node_adapter::StreamOffset;
use tokio::sync::{oneshot, watch};

use crate::cost::MESSAGE_COST;
use crate::input::{Input, Key, LogInput, MissedQuestion, StreamPosition};
use crate::shared::Shared;

/// Stream of a cluster, as the log of one namespace.
#[derive(Debug)]
pub(crate) struct StreamEventLog {
    key: Key,
    shared: Arc<Shared>,
    position: watch::Receiver<StreamPosition>,
}

impl StreamEventLog {
    pub(crate) fn new(key: Key, shared: Arc<Shared>) -> Self {
        let position = shared.position.subscribe();
        Self { key, shared, position }
    }

    async fn ask<T>(
        &self,
        bytes: usize,
        input: impl FnOnce(oneshot::Sender<T>) -> LogInput,
    ) -> Result<T, EventLogError> {
        let (reply, answer) = oneshot::channel();
        let unavailable = |reason: &str| EventLogError::Unavailable(reason.to_owned());
        self.shared
            .inlet
            .push(Input::Log(input(reply)), bytes)
            .map_err(|refusal| EventLogError::Unavailable(refusal.to_string()))?;
        answer.await.map_err(|_| unavailable("the connection to the cluster ended"))
    }
}

/// Time for the own events of an outage to come back from the stream, once it can be read.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

fn offset(text: &str) -> Result<StreamOffset, EventLogError> {
    text.parse().map_err(|_| EventLogError::InvalidOffset)
}

#[async_trait]
impl EventLog for StreamEventLog {
    fn position(&self) -> Option<ByteString> {
        let id = self.position.borrow().id;
        id.map(|id| id.to_string().into())
    }

    async fn reached(&self, until: &str) -> Result<(), EventLogError> {
        let until = offset(until)?.id;
        let mut position = self.position.clone();
        let reached = position
            .wait_for(|position| !position.is_reading || position.id.is_some_and(|id| id >= until))
            .await;
        match reached {
            Ok(position) if position.id.is_some_and(|id| id >= until) => Ok(()),
            Ok(_) => Err(EventLogError::Unavailable("the stream cannot be read".to_owned())),
            Err(_) => Err(EventLogError::Unavailable("the connection to the cluster ended".to_owned())),
        }
    }

    async fn settled(&self) -> Result<(), EventLogError> {
        let mut position = self.position.clone();
        let settled = position.wait_for(|position| !position.is_reading || !position.has_released);
        match tokio::time::timeout(SETTLE_LIMIT, settled).await {
            Ok(Ok(position)) if !position.has_released => Ok(()),
            _ => Err(EventLogError::Unavailable("events of an outage are not in the stream yet".to_owned())),
        }
    }

    fn is_provisional(&self, text: &str) -> bool {
        offset(text).is_ok_and(|offset| offset.released.is_some())
    }

    async fn latest(&self) -> Result<ByteString, EventLogError> {
        let last = self.ask(MESSAGE_COST, |reply| LogInput::Latest { reply }).await?;
        let last = last.ok_or_else(|| EventLogError::Unavailable("the stream cannot be read".to_owned()))?;
        Ok(last.to_string().into())
    }

    async fn missed(&self, query: &LogQuery<'_>) -> Result<MissedEvents, EventLogError> {
        let question = MissedQuestion {
            after: offset(query.after)?,
            rooms: query.rooms.to_vec(),
            max_bytes: query.max_bytes,
        };
        let rooms = query.rooms.iter().map(|room| room.as_str().len() + 32).sum::<usize>();
        let key = self.key;
        self.ask(rooms + MESSAGE_COST, |reply| LogInput::Missed { key, question, reply }).await?
    }
}
