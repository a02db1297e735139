//! Queue towards the engine.

use std::collections::VecDeque;

use bytestring::ByteString;
use roomcast_node_adapter::{Composed, RequestNumber};

use crate::batch::Batch;
use crate::cost::{cost, cost_of};
use crate::input::Key;

/// Commands that wait for the engine.
#[derive(Debug)]
pub(super) enum Command {
    Publish(Composed),
    /// Several publications, each of which counts as a command.
    PublishAll(Batch),
    /// Count the nodes for a request, which keeps its own bytes, or whether a silent node is subscribed.
    Count(Key, RequestNumber, Option<ByteString>),
}

/// Command that was taken from the queue.
#[derive(Debug)]
pub(super) enum Taken<'q> {
    Command(Command),
    /// Publication of a batch: its channel and its payload.
    Part(&'q str, &'q [u8]),
}

/// Queue towards the engine, in order of publication.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    commands: VecDeque<Command>,
    bytes: usize,
    pushed: u64,
    passed: u64,
}

impl Outgoing {
    pub(super) fn push(&mut self, command: Command) {
        self.bytes += bytes_of(&command);
        self.pushed += commands_of(&command) as u64;
        self.commands.push_back(command);
    }

    pub(super) fn pop(&mut self) -> Option<Taken<'_>> {
        self.free_sent();
        if matches!(self.commands.front(), Some(Command::PublishAll(_))) {
            let Some(Command::PublishAll(batch)) = self.commands.front_mut() else { return None };
            let (channel, payload) = batch.take()?;
            self.bytes -= cost_of(channel.len() + payload.len());
            self.passed += 1;
            return Some(Taken::Part(channel, payload));
        }
        let command = self.commands.pop_front()?;
        self.bytes -= bytes_of(&command);
        self.passed += 1;
        Some(Taken::Command(command))
    }

    /// Frees the memory of a batch whose publications were all taken.
    pub(super) fn free_sent(&mut self) {
        if matches!(self.commands.front(), Some(Command::PublishAll(batch)) if batch.len() == 0) {
            self.commands.pop_front();
        }
    }

    /// Returns the number of commands.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.pushed - self.passed).unwrap_or(usize::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pushed == self.passed
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of publications.
    pub(super) fn publications(&self) -> usize {
        let is_publication = |command: &&Command| !matches!(command, Command::Count(..));
        self.commands.iter().filter(is_publication).map(commands_of).sum()
    }

    /// Returns a mark behind the last command.
    pub(super) fn mark(&self) -> u64 {
        self.pushed
    }

    /// Returns whether all commands before a mark were taken.
    pub(super) fn has_passed(&self, mark: u64) -> bool {
        self.passed >= mark
    }
}

fn commands_of(command: &Command) -> usize {
    match command {
        Command::PublishAll(batch) => batch.len(),
        Command::Publish(_) | Command::Count(..) => 1,
    }
}

fn bytes_of(command: &Command) -> usize {
    match command {
        Command::Publish(message) => cost(message),
        Command::PublishAll(batch) => batch.cost(),
        Command::Count(..) => 0,
    }
}
