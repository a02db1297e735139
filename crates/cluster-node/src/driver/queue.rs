//! Queue towards the engine.

use std::collections::VecDeque;

use bytestring::ByteString;
use roomcast_node_adapter::{Composed, RequestNumber};

use crate::input::Key;
use crate::shared::cost;

/// Command that waits for the engine.
#[derive(Debug)]
pub(super) enum Command {
    Publish(Composed),
    /// Count the nodes for a request, which keeps its own bytes, or whether a silent node is subscribed.
    Count(Key, RequestNumber, Option<ByteString>),
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
        self.pushed += 1;
        self.commands.push_back(command);
    }

    pub(super) fn pop(&mut self) -> Option<Command> {
        let command = self.commands.pop_front()?;
        self.bytes -= bytes_of(&command);
        self.passed += 1;
        Some(command)
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of publications.
    pub(super) fn publications(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Publish(_))).count()
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

fn bytes_of(command: &Command) -> usize {
    match command {
        Command::Publish(message) => cost(message),
        Command::Count(..) => 0,
    }
}
