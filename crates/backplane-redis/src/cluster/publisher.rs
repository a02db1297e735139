//! Publishing connection to one master.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use bytestring::ByteString;
use roomcast_node_adapter::SubscriberCount;

use super::outbox::Publication;
use super::slots::{self, Rejection};
use crate::RedisConfig;
use crate::config::Address;
use crate::connection::{Link, LinkEvent, Reply, SendQueue, encode, encode_publish, parse, text_of};
use crate::metrics::Counters;

/// Publishing connection to one master. Commands are kept until they are answered.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    host: String,
    queue: SendQueue,
    /// Commands that are not answered, the first one first.
    commands: VecDeque<Command>,
    bytes: usize,
    has_logged_refusal: bool,
}

#[derive(Debug)]
enum Command {
    Publish(Publication),
    Count(u64),
    Ping,
}

/// Event of a publishing connection.
#[derive(Debug)]
pub(super) enum PublisherEvent {
    Up,
    /// The connection was lost, with these commands.
    Down(Vec<Answer>),
    Answer(Answer),
}

/// End of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Executed(Publication),
    /// It was sent, and the reply is lost.
    Unconfirmed(Publication),
    /// It was not sent.
    Unsent(Publication),
    Rejected(Publication, Rejection),
    Counted(u64, SubscriberCount),
}

impl Publisher {
    pub(super) fn new(address: &Address, config: Arc<RedisConfig>, counters: &Counters) -> Self {
        Self {
            link: Link::new("publish", config, counters.clone()),
            host: slots::host_of(address),
            queue: SendQueue::default(),
            commands: VecDeque::new(),
            bytes: 0,
            has_logged_refusal: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Returns whether the connection is away, or does not answer.
    pub(super) fn is_stalled(&self) -> bool {
        !self.link.is_up() || self.link.is_unanswered()
    }

    /// Returns the bytes of publications that are not answered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.commands.is_empty()
    }

    /// Queues a publication; the connection is established.
    pub(super) fn publish(&mut self, publication: Publication) {
        let (name, payload) = (publication.channel.as_bytes(), &publication.payload);
        self.queue.push(|out| encode_publish(out, true, name, payload));
        self.bytes += publication.len();
        self.commands.push_back(Command::Publish(publication));
    }

    /// Queues a count of the subscribers of a channel; the connection is established.
    pub(super) fn count(&mut self, channel: &ByteString, token: u64) {
        self.queue.push(|out| encode(out, b"PUBSUB", [&b"SHARDNUMSUB"[..], channel.as_bytes()].into_iter()));
        self.commands.push_back(Command::Count(token));
    }

    /// Writes and reads until there is an event.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PublisherEvent> {
        loop {
            match self.next_answer() {
                Ok(Some(answer)) => return Poll::Ready(PublisherEvent::Answer(answer)),
                Ok(None) => {}
                Err(reason) => {
                    self.link.fail(&reason);
                    return Poll::Ready(PublisherEvent::Down(self.lose()));
                }
            }
            match std::task::ready!(self.link.poll_io(cx, &mut self.queue)) {
                LinkEvent::Up => {
                    self.has_logged_refusal = false;
                    return Poll::Ready(PublisherEvent::Up);
                }
                LinkEvent::Down => return Poll::Ready(PublisherEvent::Down(self.lose())),
                LinkEvent::Tick => {
                    // Other commands test the connection as well.
                    if self.link.is_silent() && self.commands.is_empty() {
                        self.commands.push_back(Command::Ping);
                        self.queue.push(|out| encode(out, b"PING", [].into_iter()));
                    }
                }
                LinkEvent::Data => {}
            }
        }
    }

    /// Takes the next reply from the bytes that were read.
    fn next_answer(&mut self) -> Result<Option<Answer>, &'static str> {
        while let Some((reply, len)) = parse(&self.link.input).map_err(|_| "invalid reply")? {
            // A server may send an error before it closes a connection.
            let command = self.commands.pop_front().ok_or("reply without a command")?;
            let answer = match (command, &reply) {
                (Command::Ping, _) => None,
                (Command::Count(token), reply) => Some(Answer::Counted(token, count_of(reply))),
                (Command::Publish(publication), Reply::Error(text)) => {
                    let rejection = Rejection::read(text, &self.host);
                    if rejection == Rejection::Refused
                        && !std::mem::replace(&mut self.has_logged_refusal, true)
                    {
                        tracing::warn!(
                            reason = text_of(text),
                            "redis refused publications; `refused` counts them"
                        );
                    }
                    Some(Answer::Rejected(publication, rejection))
                }
                (Command::Publish(publication), _) => Some(Answer::Executed(publication)),
            };
            if let Some(Answer::Executed(publication) | Answer::Rejected(publication, _)) = &answer {
                self.bytes -= publication.len();
            }
            self.link.input.advance(len);
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    /// Returns the commands of a connection that ends, or was lost.
    pub(super) fn lose(&mut self) -> Vec<Answer> {
        let unsent = usize::try_from(self.queue.unsent()).unwrap_or(usize::MAX);
        let sent = self.commands.len().saturating_sub(unsent);
        self.queue.clear();
        self.bytes = 0;
        let answers = self.commands.drain(..).enumerate().filter_map(|(index, command)| match command {
            Command::Publish(publication) if index < sent => Some(Answer::Unconfirmed(publication)),
            Command::Publish(publication) => Some(Answer::Unsent(publication)),
            Command::Count(token) => Some(Answer::Counted(token, SubscriberCount::Lost)),
            Command::Ping => None,
        });
        answers.collect()
    }
}

/// Returns the number in the reply to `PUBSUB SHARDNUMSUB` with one channel.
fn count_of(reply: &Reply<'_>) -> SubscriberCount {
    if let Reply::Array(parts) = reply
        && let [_, Reply::Integer(number)] = &parts[..]
        && let Ok(number) = u64::try_from(*number)
    {
        return SubscriberCount::Known(number);
    }
    SubscriberCount::Refused
}
