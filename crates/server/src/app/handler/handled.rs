//! Handled events in the session of a client, for a repeat on another server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use roomcast_core::Args;
use serde::{Deserialize, Serialize};

/// Event that was handled.
#[derive(Debug, Serialize, Deserialize)]
struct Handled {
    /// Name of the event.
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "s")]
    scope: String,
    /// Id, in the form of a key.
    #[serde(rename = "i")]
    id: String,
    /// Answer as comma-separated JSON, if the handler gave one.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Time at which it is forgotten, in milliseconds since 1970.
    #[serde(rename = "t")]
    expires: u64,
}

/// Id of an event, in a list of handled ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventId<'a> {
    pub(super) name: &'a str,
    pub(super) scope: &'a str,
    pub(super) id: &'a str,
}

/// Returns the answer to an event of a list; the outer `None` means that it was not handled.
pub(super) fn find(list: &str, event: EventId<'_>, now: SystemTime) -> Option<Option<Args>> {
    let now = milliseconds(now);
    let found = read(list).into_iter().find(|known| known.is(event) && known.expires > now)?;
    match found.answer {
        None => Some(None),
        Some(answer) => Args::from_json(answer.into(), Vec::new()).ok().map(Some),
    }
}

/// Adds an event to a list, and removes expired and surplus ones.
///
/// One whose answer is binary or too long is left out.
pub(super) fn add(
    list: &str,
    event: EventId<'_>,
    answer: Option<&Args>,
    now: SystemTime,
    window: Duration,
) -> ByteString {
    let mut all = read(list);
    all.retain(|known| known.expires > milliseconds(now) && !known.is(event));
    if answer.is_none_or(|answer| answer.attachments().is_empty() && answer.json().len() <= MAX_ANSWER) {
        let expires = milliseconds(now).saturating_add(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        all.push(Handled {
            name: event.name.to_owned(),
            scope: event.scope.to_owned(),
            id: event.id.to_owned(),
            answer: answer.map(|answer| answer.json().to_owned()),
            expires,
        });
    }
    let surplus = all.len().saturating_sub(MAX_EVENTS);
    all.drain(..surplus);
    if all.is_empty() {
        return ByteString::new();
    }
    // Writing to memory does not fail.
    serde_json::to_string(&all).unwrap_or_default().into()
}

impl Handled {
    fn is(&self, event: EventId<'_>) -> bool {
        (&*self.id, &*self.scope, &*self.name) == (event.id, event.scope, event.name)
    }
}

/// Returns the events of a list; none if it is of another version.
fn read(list: &str) -> Vec<Handled> {
    if list.is_empty() { Vec::new() } else { serde_json::from_str(list).unwrap_or_default() }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum number of events of one session. A client repeats one event at a time.
const MAX_EVENTS: usize = 16;
/// Maximum bytes of an answer.
const MAX_ANSWER: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn event(id: &str) -> EventId<'_> {
        EventId { name: "order", scope: "s", id }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn handled_events_are_found_until_they_expire() {
        let answer = Args::from_json("{\"a\":1},\"x\"".into(), Vec::new()).expect("JSON");
        let list = add("", event("1"), Some(&answer), at(100), WINDOW);
        let list = add(&list, event("\"1\""), None, at(110), WINDOW);
        let found = |event, time| {
            let answer = find(&list, event, at(time))?;
            Some(answer.map(|args| args.json().to_owned()))
        };
        assert_eq!(found(event("1"), 159), Some(Some("{\"a\":1},\"x\"".to_owned())));
        assert_eq!((found(event("1"), 160), found(event("\"1\""), 160)), (None, Some(None)));
        for other in [EventId { name: "o", ..event("1") }, EventId { scope: "t", ..event("1") }, event("2")] {
            assert_eq!(found(other, 110), None);
        }
        // An expired event is removed, and one that is handled again is renewed.
        let list = add(&list, event("2"), None, at(165), WINDOW);
        assert_eq!(read(&list).len(), 2);
        assert_eq!(read(&add(&list, event("2"), None, at(166), WINDOW)).len(), 2);
        // Lists of another version are ignored.
        assert!(find("[1]", event("1"), at(1)).is_none());
        assert_eq!(read(&add("{", event("1"), None, at(1), WINDOW)).len(), 1);
    }

    #[test]
    fn lists_are_bounded() {
        let mut list = ByteString::new();
        for number in 0..100 {
            list = add(&list, event(&number.to_string()), None, at(1), WINDOW);
        }
        assert_eq!(read(&list).len(), MAX_EVENTS);
        assert!(find(&list, event("99"), at(2)).is_some() && find(&list, event("0"), at(2)).is_none());
        let long = Args::from_text("x".repeat(MAX_ANSWER).into());
        let placeholder = "{\"_placeholder\":true,\"num\":0}";
        let binary = Args::from_json(placeholder.into(), vec![vec![1].into()]).expect("JSON");
        for answer in [long, binary] {
            assert_eq!(add("", event("1"), Some(&answer), at(1), WINDOW), "");
        }
    }
}
