//! Several servers of one cluster, connected by a message engine in memory.
//!
//! Everything between them is encoded, and arrives later than the call that sent it returns.

mod broadcasts;
mod faults;
mod namespaces;
mod queries;
mod recovery;
mod servers;
mod shared_log;
mod sockets;

use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;

/// Timeout that does not expire.
const AGES: Duration = Duration::from_secs(60);

/// Returns the events before the last of so many events named `end`, sorted.
///
/// Events to one room or namespace are in order. An `end` to each of them, therefore, follows all that is to arrive.
#[track_caller]
fn until_end(client: &mut Client, ends: usize) -> Vec<(String, Value)> {
    let (mut events, mut ended) = (Vec::new(), 0);
    while ended < ends {
        let event = client.event();
        if event.0 == "end" {
            ended += 1;
        } else {
            events.push(event);
        }
    }
    events.sort_by_key(|(name, args)| (name.clone(), args.to_string()));
    events
}

/// Returns the names of [`until_end`].
#[track_caller]
fn names_until_end(client: &mut Client, ends: usize) -> Vec<String> {
    until_end(client, ends).into_iter().map(|(name, _)| name).collect()
}
