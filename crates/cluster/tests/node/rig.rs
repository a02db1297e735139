//! Node and its time, and what nodes send each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, Node, NodeId, Publication,
    PublishError,
};
use roomcast_core::{Namespace, Room};

/// Node and its time.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) now: Instant,
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
    pub(crate) fn new(id: u64, configure: impl FnOnce(&mut ClusterConfig)) -> Self {
        let mut config = ClusterConfig::default();
        configure(&mut config);
        let now = Instant::now();
        Self { node: Node::new(Arc::new(config), NodeId::new(id), 1, now), now }
    }

    /// Creates a node that starts at a time.
    pub(crate) fn at(id: u64, now: Instant) -> Self {
        Self::at_incarnation(id, 1, now)
    }

    pub(crate) fn at_incarnation(id: u64, incarnation: u64, now: Instant) -> Self {
        Self { node: Node::new(Arc::default(), NodeId::new(id), incarnation, now), now }
    }

    /// Returns the commands that are due.
    pub(crate) fn commands(&mut self) -> Vec<BackplaneCommand> {
        let now = self.now;
        std::iter::from_fn(|| self.node.poll_command(now)).collect()
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.node.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
        }
        self.now = until;
    }

    /// Confirms what the node has subscribed to; returns all its commands.
    pub(crate) fn serve(&mut self) -> Vec<BackplaneCommand> {
        let commands = self.commands();
        for command in &commands {
            if let BackplaneCommand::Subscribe { channels, token } = command.clone() {
                self.node.handle_event(BackplaneEvent::Subscribed { channels, token }, self.now);
            }
        }
        commands
    }

    pub(crate) fn actions(&mut self) -> Vec<ClusterAction> {
        std::iter::from_fn(|| self.node.poll_action()).collect()
    }

    pub(crate) fn publish(&mut self, room: &str, len: usize) -> Result<(), PublishError> {
        self.node.publish(publication(room, len), self.now)
    }

    /// Passes the messages of another node.
    pub(crate) fn receive(&mut self, commands: Vec<BackplaneCommand>) {
        for command in commands {
            let BackplaneCommand::Publish { channel, payload } = command else { continue };
            // The inbox of another node is not subscribed.
            if !matches!(channel, Channel::Inbox(id) if id != self.node.node_ref().id) {
                self.node.handle_event(BackplaneEvent::Message { channel, payload }, self.now);
            }
        }
    }
}

pub(crate) fn publication(room: &str, len: usize) -> Publication {
    Publication {
        namespace: Namespace::main(),
        rooms: vec![Room::from(room)],
        except: Vec::new(),
        kind: 1,
        body: vec![7; len].into(),
    }
}

pub(crate) fn channel(room: &str) -> Channel {
    Channel::of(&Namespace::main(), Some(&Room::from(room)))
}

pub(crate) fn is_subscription(command: &BackplaneCommand) -> bool {
    matches!(command, BackplaneCommand::Subscribe { .. } | BackplaneCommand::Unsubscribe { .. })
}

/// Passes messages between two nodes for some heartbeats.
pub(crate) fn connect(one: &mut Rig, two: &mut Rig) {
    for _ in 0..10 {
        let (from_one, from_two) = (one.serve(), two.serve());
        one.receive(from_two);
        two.receive(from_one);
        one.advance(Duration::from_millis(500));
        two.advance(Duration::from_millis(500));
    }
}

/// Returns the messages on a channel.
pub(crate) fn messages(commands: &[BackplaneCommand], wanted: &Channel) -> Vec<BackplaneCommand> {
    let is_wanted = |command: &&BackplaneCommand| match command {
        BackplaneCommand::Publish { channel, .. } => channel == wanted,
        _ => false,
    };
    commands.iter().filter(is_wanted).cloned().collect()
}

/// Two nodes; the second is subscribed to rooms `a` and `b`.
pub(crate) fn subscribed_pair(configure: impl Fn(&mut ClusterConfig)) -> (Rig, Rig) {
    let (mut one, mut two) = (Rig::new(1, &configure), Rig::new(2, &configure));
    for room in ["a", "b"] {
        two.node.add_interest(&Namespace::main(), Some(&Room::from(room)), two.now);
    }
    connect(&mut one, &mut two);
    one.actions();
    two.actions();
    (one, two)
}
