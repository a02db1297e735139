//! Recipients and flags of an operation.

use std::fmt;
use std::time::Duration;

use bytestring::ByteString;
use roomcast_core::{Delivery, Overflow, Room, Target, push_quoted};
use roomcast_msgpack::{Reader, Value, Writer};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::recent::Recent;
use super::{CodecLimits, DecodeError};

/// Rooms whose members are included and excluded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers build it and take it apart")]
pub struct Recipients {
    /// Rooms whose members are included; empty for all members.
    pub rooms: Vec<Room>,
    /// Rooms whose members are excluded.
    pub except: Vec<Room>,
}

impl From<&Target> for Recipients {
    fn from(target: &Target) -> Self {
        Self { rooms: target.rooms.clone(), except: target.except.clone() }
    }
}

/// Delivery options of a broadcast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "drivers build it and take it apart")]
pub struct Flags {
    /// Whether clients that cannot receive it now may miss it.
    pub volatile: bool,
    /// Whether transports may compress it; `None` if the sender did not say.
    pub compress: Option<bool>,
    /// Time for acknowledgements.
    pub timeout: Option<Duration>,
    /// Whether the sender expects the acknowledgement of a single socket.
    pub expect_single_response: bool,
    /// Key by which a newer event replaces this one. Sent between nodes of Roomcast only; Node ignores it.
    pub key: Option<ByteString>,
    /// Policy for full outboxes. Sent between nodes of Roomcast only; Node ignores it.
    pub overflow: Overflow,
}

impl Recipients {
    /// Returns the target of local delivery.
    #[must_use]
    pub fn target(self, flags: &Flags) -> Target {
        Target {
            rooms: self.rooms,
            except: self.except,
            delivery: if flags.volatile { Delivery::Volatile } else { Delivery::Reliable },
            overflow: flags.overflow,
            ..Target::default()
        }
    }
}

/// Names of Roomcast's own flags.
const KEY: &str = "roomcastKey";
const OVERFLOW: &str = "roomcastOverflow";

fn overflow_name(overflow: Overflow) -> Option<&'static str> {
    Some(match overflow {
        Overflow::Inherit => return None,
        Overflow::Close => "close",
        Overflow::DropNewest => "drop-newest",
        Overflow::DropOldest => "drop-oldest",
        Overflow::KeepLatest => "keep-latest",
    })
}

fn overflow_of(name: &str) -> Overflow {
    match name {
        "close" => Overflow::Close,
        "drop-newest" => Overflow::DropNewest,
        "drop-oldest" => Overflow::DropOldest,
        "keep-latest" => Overflow::KeepLatest,
        _ => Overflow::Inherit,
    }
}

/// Returns the number that JavaScript prints as this text, if it is a safe integer.
///
/// Node's rooms may be numbers, and `7` is another room than `"7"` there: both are named to reach either.
pub(super) fn numeric(room: &str) -> Option<i64> {
    const MAX_SAFE: i64 = (1 << 53) - 1;
    let digits = room.strip_prefix('-').unwrap_or(room);
    let is_canonical = match digits.as_bytes() {
        [b'0'] => digits.len() == room.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let number = if is_canonical { room.parse::<i64>().ok() } else { None };
    number.filter(|number| number.abs() <= MAX_SAFE)
}

/// Appends `"key":["a","7",7]`.
pub(super) fn push_rooms(json: &mut String, key: &str, rooms: &[Room]) {
    json.push('"');
    json.push_str(key);
    json.push_str("\":[");
    for (index, room) in rooms.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_quoted(json, room.as_str());
        if numeric(room.as_str()).is_some() {
            json.push(',');
            json.push_str(room.as_str());
        }
    }
    json.push(']');
}

/// Appends `"opts":{"rooms":[…],"except":[…]}`.
pub(super) fn push_opts(json: &mut String, recipients: &Recipients) {
    json.push_str(r#""opts":{"#);
    push_rooms(json, "rooms", &recipients.rooms);
    json.push(',');
    push_rooms(json, "except", &recipients.except);
    json.push('}');
}

/// Appends `"opts":{"rooms":[…],"except":[…],"flags":{…}}`.
pub(super) fn push_opts_with_flags(json: &mut String, recipients: &Recipients, flags: &Flags) {
    push_opts(json, recipients);
    json.pop();
    json.push_str(r#","flags":{"#);
    push_flags(json, flags);
    json.push_str("}}");
}

fn push_flags(json: &mut String, flags: &Flags) {
    let mut is_first = true;
    let mut key = |json: &mut String, name: &str| {
        if !is_first {
            json.push(',');
        }
        is_first = false;
        push_quoted(json, name);
        json.push(':');
    };
    if flags.volatile {
        key(json, "volatile");
        json.push_str("true");
    }
    if let Some(compress) = flags.compress {
        key(json, "compress");
        json.push_str(if compress { "true" } else { "false" });
    }
    if let Some(timeout) = flags.timeout {
        key(json, "timeout");
        json.push_str(&milliseconds(timeout).to_string());
    }
    if flags.expect_single_response {
        key(json, "expectSingleResponse");
        json.push_str("true");
    }
    if let Some(text) = &flags.key {
        key(json, KEY);
        push_quoted(json, text);
    }
    if let Some(overflow) = overflow_name(flags.overflow) {
        key(json, OVERFLOW);
        push_quoted(json, overflow);
    }
}

fn write_rooms(writer: &mut Writer, rooms: &[Room]) {
    let numbers = rooms.iter().filter(|room| numeric(room.as_str()).is_some()).count();
    writer.array(rooms.len() + numbers);
    for room in rooms {
        writer.text(room.as_str());
        if let Some(number) = numeric(room.as_str()) {
            writer.int(number);
        }
    }
}

/// Writes `{rooms, except, flags}`.
pub(super) fn write_opts(writer: &mut Writer, rooms: &[Room], except: &[Room], flags: &Flags) {
    writer.map(3);
    writer.text("rooms");
    write_rooms(writer, rooms);
    writer.text("except");
    write_rooms(writer, except);
    writer.text("flags");
    write_flags(writer, flags);
}

fn write_flags(writer: &mut Writer, flags: &Flags) {
    let overflow = overflow_name(flags.overflow);
    let present = [
        flags.volatile,
        flags.compress.is_some(),
        flags.timeout.is_some(),
        flags.expect_single_response,
        flags.key.is_some(),
        overflow.is_some(),
    ];
    writer.map(present.iter().map(|present| u32::from(*present)).sum());
    if flags.volatile {
        writer.text("volatile");
        writer.bool(true);
    }
    if let Some(compress) = flags.compress {
        writer.text("compress");
        writer.bool(compress);
    }
    if let Some(timeout) = flags.timeout {
        writer.text("timeout");
        writer.uint(milliseconds(timeout));
    }
    if flags.expect_single_response {
        writer.text("expectSingleResponse");
        writer.bool(true);
    }
    if let Some(key) = &flags.key {
        writer.text(KEY);
        writer.text(key);
    }
    if let Some(overflow) = overflow {
        writer.text(OVERFLOW);
        writer.text(overflow);
    }
}

/// Converts a timeout to the range of Node's `setTimeout`.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).clamp(1, (1 << 31) - 1)
}

fn timeout_of(milliseconds: f64) -> Option<Duration> {
    (milliseconds.is_finite() && (0.0..=1e12).contains(&milliseconds))
        .then(|| Duration::from_secs_f64(milliseconds / 1000.0))
}

/// Reads `{rooms, except, flags}`.
pub(super) fn read_opts(
    reader: &mut Reader<'_>,
    limits: &CodecLimits,
    names: &mut Recent<Room>,
) -> Result<(Recipients, Flags), DecodeError> {
    let len = reader.map()?;
    let (mut rooms, mut except, mut flags) = (None, Vec::new(), Flags::default());
    for _ in 0..len {
        let Value::Text(key) = reader.value()? else { return Err(DecodeError::Field("opts")) };
        match key {
            b"rooms" => rooms = Some(read_rooms(reader, limits, names, true)?),
            b"except" => except = read_rooms(reader, limits, names, false)?,
            b"flags" => flags = read_flags(reader)?,
            _ => {
                let value = reader.value()?;
                reader.skip(&value)?;
            }
        }
    }
    Ok((Recipients { rooms: rooms.ok_or(DecodeError::Field("rooms"))?, except }, flags))
}

fn read_rooms(
    reader: &mut Reader<'_>,
    limits: &CodecLimits,
    names: &mut Recent<Room>,
    strict: bool,
) -> Result<Vec<Room>, DecodeError> {
    let len = reader.array()?;
    let mut rooms = RoomList { limit: limits.rooms, strict, ..RoomList::default() };
    for _ in 0..len {
        let value = reader.value()?;
        reader.skip(&value)?;
        rooms.push(match value {
            Value::Text(name) => Some(names.get(name)),
            Value::Unsigned(number) => Some(number.to_string().into()),
            Value::Signed(number) => Some(number.to_string().into()),
            Value::Float(number) => Some(float(number).into()),
            _ => None,
        })?;
    }
    Ok(rooms.rooms)
}

/// Formats a number like JavaScript, as far as rooms are concerned.
fn float(number: f64) -> String {
    // `-0` is `0`.
    if number == 0.0 { "0".to_owned() } else { number.to_string() }
}

/// Rooms of a message.
#[derive(Default)]
struct RoomList {
    rooms: Vec<Room>,
    limit: usize,
    /// Whether a room that is neither a string nor a number is an error.
    strict: bool,
}

impl RoomList {
    fn push(&mut self, room: Option<Room>) -> Result<(), DecodeError> {
        let Some(room) = room else {
            // Such a room has no members here. Without it, a list of rooms could become empty and include all members.
            return if self.strict { Err(DecodeError::Field("rooms")) } else { Ok(()) };
        };
        // A room that was named as text and as a number.
        if self.rooms.last() == Some(&room) {
            return Ok(());
        }
        if self.rooms.len() >= self.limit {
            return Err(DecodeError::Limit { what: "rooms", limit: self.limit });
        }
        self.rooms.push(room);
        Ok(())
    }
}

fn read_flags(reader: &mut Reader<'_>) -> Result<Flags, DecodeError> {
    let mut flags = Flags::default();
    let value = reader.value()?;
    let Value::Map(len) = value else {
        reader.skip(&value)?;
        return Ok(flags);
    };
    for _ in 0..len {
        let Value::Text(key) = reader.value()? else { return Err(DecodeError::Field("flags")) };
        let value = reader.value()?;
        reader.skip(&value)?;
        match (key, value) {
            (b"volatile", value) => flags.volatile = value == Value::Bool(true),
            (b"compress", Value::Bool(compress)) => flags.compress = Some(compress),
            (b"timeout", Value::Unsigned(milliseconds)) => {
                flags.timeout = Some(Duration::from_millis(milliseconds.min(MAX_TIMEOUT)));
            }
            (b"timeout", Value::Float(milliseconds)) => flags.timeout = timeout_of(milliseconds),
            (b"expectSingleResponse", value) => flags.expect_single_response = value == Value::Bool(true),
            (key, Value::Text(text)) if key == KEY.as_bytes() => {
                flags.key = Some(String::from_utf8_lossy(text).into_owned().into());
            }
            (key, Value::Text(text)) if key == OVERFLOW.as_bytes() => {
                flags.overflow = overflow_of(&String::from_utf8_lossy(text));
            }
            _ => {}
        }
    }
    Ok(flags)
}

/// Maximum timeout in milliseconds, below the range of clocks.
const MAX_TIMEOUT: u64 = 1_000_000_000_000;

/// Fields of `opts` in JSON.
#[derive(Deserialize)]
pub(super) struct JsonOpts {
    rooms: JsonRooms,
    #[serde(default)]
    except: JsonRooms,
    #[serde(default)]
    flags: Option<JsonFlags>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonFlags {
    volatile: serde_json::Value,
    compress: serde_json::Value,
    timeout: serde_json::Value,
    #[serde(rename = "expectSingleResponse")]
    expect_single_response: serde_json::Value,
    #[serde(rename = "roomcastKey")]
    key: serde_json::Value,
    #[serde(rename = "roomcastOverflow")]
    overflow: serde_json::Value,
}

impl JsonOpts {
    pub(super) fn take(self, limits: &CodecLimits) -> Result<(Recipients, Flags), DecodeError> {
        let flags = self.flags.map_or_else(Flags::default, |flags| Flags {
            volatile: flags.volatile == true,
            compress: flags.compress.as_bool(),
            timeout: flags.timeout.as_f64().and_then(timeout_of),
            expect_single_response: flags.expect_single_response == true,
            key: flags.key.as_str().map(ByteString::from),
            overflow: flags.overflow.as_str().map_or(Overflow::Inherit, overflow_of),
        });
        let recipients =
            Recipients { rooms: self.rooms.take(limits, true)?, except: self.except.take(limits, false)? };
        Ok((recipients, flags))
    }
}

/// List of rooms in JSON; `None` for an element that is neither a string nor a number.
#[derive(Deserialize, Default)]
pub(super) struct JsonRooms(Vec<JsonRoom>);

impl JsonRooms {
    pub(super) fn take(self, limits: &CodecLimits, strict: bool) -> Result<Vec<Room>, DecodeError> {
        let mut rooms = RoomList { limit: limits.rooms, strict, ..RoomList::default() };
        self.0.into_iter().try_for_each(|room| rooms.push(room.0.map(Room::from)))?;
        Ok(rooms.rooms)
    }
}

/// Room in JSON; `None` if it is neither a string nor a number.
pub(super) struct JsonRoom(pub(super) Option<String>);

impl<'de> Deserialize<'de> for JsonRoom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RoomVisitor;

        impl<'de> Visitor<'de> for RoomVisitor {
            type Value = JsonRoom;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a room")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<JsonRoom, E> {
                Ok(JsonRoom(Some(name.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<JsonRoom, E> {
                Ok(JsonRoom(Some(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<JsonRoom, E> {
                Ok(JsonRoom(Some(number.to_string())))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<JsonRoom, E> {
                Ok(JsonRoom(Some(float(number))))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<JsonRoom, E> {
                Ok(JsonRoom(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<JsonRoom, E> {
                Ok(JsonRoom(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonRoom, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(JsonRoom(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonRoom, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(JsonRoom(None))
            }
        }

        deserializer.deserialize_any(RoomVisitor)
    }
}

/// Text, or anything else, which counts as none.
#[derive(Default)]
pub(super) struct JsonText(pub(super) ByteString);

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = JsonRoom::deserialize(deserializer)?;
        Ok(Self(text.0.unwrap_or_default().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_texts_of_javascript_integers() {
        for room in ["0", "7", "-7", "42", "9007199254740991", "-9007199254740991"] {
            assert_eq!(numeric(room).map(|number| number.to_string()).as_deref(), Some(room));
        }
        for room in
            ["", "-", "-0", "07", "+7", "7.0", "7e1", " 7", "9007199254740992", "99999999999999999999", "a"]
        {
            assert_eq!(numeric(room), None, "{room}");
        }
    }
}
