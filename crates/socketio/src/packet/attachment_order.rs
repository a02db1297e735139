//! Order of attachments.
//!
//! Clients number attachments in the order of their placeholders in the text. Packets with another order are accepted
//! and reordered, so every recipient of the arguments gets attachments in order.

use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;
use roomcast_core::Args;

use super::DecodeError;

/// Returns the arguments with their attachments in the order of the text.
///
/// Expects validated placeholders. Attachments without a placeholder are dropped if others are out of order.
pub(super) fn in_order(args: Args) -> Result<Args, DecodeError> {
    if args.attachments().len() < 2 {
        return Ok(args);
    }
    let placeholders = placeholders(args.json());
    if placeholders.iter().enumerate().all(|(index, placeholder)| placeholder.num == index) {
        return Ok(args);
    }
    renumbered(&args, &placeholders)
}

fn renumbered(args: &Args, placeholders: &[Placeholder]) -> Result<Args, DecodeError> {
    // An empty attachment may be referenced more than once, but not beyond the announced count.
    if placeholders.len() > args.attachments().len() {
        return Err(DecodeError::AttachmentCount);
    }
    let attachments: Option<Vec<Bytes>> =
        placeholders.iter().map(|placeholder| args.attachments().get(placeholder.num).cloned()).collect();
    let list = args.json();
    let mut text = String::with_capacity(list.len());
    let mut copied = 0;
    for (index, placeholder) in placeholders.iter().enumerate() {
        text.push_str(&list[copied..placeholder.at.start]);
        // Writing to a String cannot fail.
        let _ = write!(text, "{index}");
        copied = placeholder.at.end;
    }
    text.push_str(&list[copied..]);
    Ok(Args::from_validated(text.into(), attachments.ok_or(DecodeError::AttachmentCount)?))
}

/// An attachment index and its position in the text.
struct Placeholder {
    at: Range<usize>,
    num: usize,
}

/// Finds the placeholders in a list of valid JSON values, in text order and one pass.
fn placeholders(list: &str) -> Vec<Placeholder> {
    let mut scan = Scan { list, open: Vec::new(), found: Vec::new() };
    let mut at = 0;
    while let Some(byte) = list.as_bytes().get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' => scan.begin(true),
            b'[' => scan.begin(false),
            b'}' | b']' => scan.end(),
            b':' => scan.set_in_value(true),
            b',' => scan.set_in_value(false),
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' => {
                at = string_end(list, at);
                scan.string(start..at);
            }
            _ => {
                at += list.as_bytes()[at..].iter().take_while(|byte| !b",]} \t\n\r".contains(byte)).count();
                scan.scalar(start..at);
            }
        }
    }
    let mut found = scan.found;
    // Placeholders may nest, with inner indexes before or after the outer one.
    found.sort_by_key(|placeholder| placeholder.at.start);
    found
}

struct Scan<'t> {
    list: &'t str,
    /// Open arrays and objects, outermost first.
    open: Vec<Container>,
    found: Vec<Placeholder>,
}

/// An array, or the scanned part of an object.
#[derive(Default)]
struct Container {
    is_object: bool,
    in_value: bool,
    key: Key,
    marked: bool,
    num: Option<Range<usize>>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Key {
    Mark,
    Num,
    #[default]
    Other,
}

impl Scan<'_> {
    fn begin(&mut self, is_object: bool) {
        self.value(false, None);
        self.open.push(Container { is_object, ..Container::default() });
    }

    fn end(&mut self) {
        let Some(Container { marked: true, num: Some(at), .. }) = self.open.pop() else { return };
        if let Ok(num) = self.list[at.clone()].parse() {
            self.found.push(Placeholder { at, num });
        }
    }

    fn set_in_value(&mut self, in_value: bool) {
        if let Some(container) = self.open.last_mut() {
            container.in_value = in_value;
        }
    }

    fn string(&mut self, at: Range<usize>) {
        match self.open.last_mut() {
            Some(object) if object.is_object && !object.in_value => object.key = Key::read(&self.list[at]),
            _ => self.value(false, None),
        }
    }

    fn scalar(&mut self, at: Range<usize>) {
        self.value(&self.list[at.clone()] == "true", Some(at));
    }

    /// Records a value under its key; for duplicate keys the last value counts.
    fn value(&mut self, is_true: bool, at: Option<Range<usize>>) {
        let Some(container) = self.open.last_mut() else { return };
        match container.key {
            Key::Mark => container.marked = is_true,
            Key::Num => container.num = at,
            Key::Other => {}
        }
    }
}

impl Key {
    fn read(quoted: &str) -> Self {
        let unescaped: String;
        let key = if quoted.contains('\\') {
            unescaped = serde_json::from_str(quoted).unwrap_or_default();
            unescaped.as_str()
        } else {
            quoted.trim_matches('"')
        };
        match key {
            "_placeholder" => Self::Mark,
            "num" => Self::Num,
            _ => Self::Other,
        }
    }
}

/// Returns the end of a string whose content starts at `at`.
fn string_end(text: &str, mut at: usize) -> usize {
    loop {
        match text.as_bytes().get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}
