//! Captures the warnings and errors that the server logs.

use std::fmt;
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Log line: its level, message, and event name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub level: String,
    pub message: String,
    /// Occurrences that the line represents.
    pub times: u64,
    event: String,
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Captures all further logs. Tests share the log, so their event names must differ.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Log).expect("no other subscriber is set"));
}

/// Returns the lines about events of this name.
pub fn about(event: &str) -> Vec<Line> {
    let lines = LINES.lock().expect("not poisoned");
    lines.iter().filter(|line| line.event == event).cloned().collect()
}

/// Counts the lines that contain this text.
pub fn saying(text: &str) -> usize {
    LINES.lock().expect("not poisoned").iter().filter(|line| line.message.contains(text)).count()
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target().starts_with("roomcast")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { level: event.metadata().level().to_string(), ..Line::default() };
        event.record(&mut line);
        LINES.lock().expect("not poisoned").push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            value.clone_into(&mut self.event);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "times" {
            self.times = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
