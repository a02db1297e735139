//! Encoder of cluster messages: composes JSON text, and converts it to MessagePack where the adapter does.

use bytes::Bytes;
use roomcast_core::{Args, Membership, Namespace, push_quoted};
use roomcast_msgpack::JsonValues;

use super::super::event::check_name;
use super::super::options::push_opts_with_flags;
use super::super::request::{check_server_side_name, push_changed_rooms};
use super::super::{EncodeError, Flags, MAX_DEPTH, Recipients, Response};
use super::{
    ACK, BROADCAST, CLIENT_COUNT, ClusterBody, ClusterEncoding, DISCONNECT, FETCH, FETCH_RESPONSE, JOIN,
    LEAVE, SERVER_SIDE_EMIT, SERVER_SIDE_EMIT_RESPONSE,
};

/// Encodes a message of the node `uid`; `id` is empty if no answer is wanted.
///
/// Of acknowledgements the first argument is sent, as on Node.
///
/// # Errors
/// Returns an error if the message could harm a Node server or its clients, or if the adapter has no such message.
pub fn encode_cluster_message(
    uid: &str,
    namespace: &Namespace,
    id: &str,
    body: &ClusterBody,
    encoding: ClusterEncoding,
) -> Result<Bytes, EncodeError> {
    let data = Data::compose(id, body)?;
    let mut json = String::with_capacity(ENVELOPE + uid.len() + namespace.as_str().len() + data.json.len());
    json.push_str(r#"{"uid":"#);
    push_quoted(&mut json, uid);
    json.push_str(r#","nsp":"#);
    push_quoted(&mut json, namespace.as_str());
    json.push_str(r#","type":"#);
    json.push_str(&data.kind.to_string());
    json.push_str(r#","data":"#);
    json.push_str(&data.json);
    json.push('}');
    if encoding == ClusterEncoding::JsonUnlessBinary && data.attachments.is_empty() {
        return Ok(json.into());
    }
    packed(&json, data.attachments)
}

/// Bytes of an envelope besides its content.
const ENVELOPE: usize = 40;

/// The field `data` of a message, as JSON text with placeholders.
pub(crate) struct Data<'m> {
    pub(crate) kind: u64,
    pub(crate) json: String,
    pub(crate) attachments: &'m [Bytes],
}

impl<'m> Data<'m> {
    pub(crate) fn compose(id: &str, body: &'m ClusterBody) -> Result<Self, EncodeError> {
        let mut data = Self { kind: 0, json: String::with_capacity(128), attachments: &[] };
        data.json.push('{');
        if !id.is_empty() {
            data.json.push_str(r#""requestId":"#);
            push_quoted(&mut data.json, id);
            data.json.push(',');
        }
        data.push(body)?;
        // The last field ends with a comma, or there is none.
        if data.json.ends_with(',') {
            data.json.pop();
        }
        data.json.push('}');
        Ok(data)
    }

    fn push(&mut self, body: &'m ClusterBody) -> Result<(), EncodeError> {
        match body {
            ClusterBody::Broadcast(recipients, flags, event) => {
                self.kind = BROADCAST;
                check_name(&event.name)?;
                self.json.reserve(event.args.json().len() + event.name.len());
                self.json.push_str(r#""packet":{"type":2,"data":"#);
                self.push_event(&event.name, &event.args)?;
                self.json.push_str("},");
                push_opts_with_flags(&mut self.json, recipients, flags);
                self.json.push(',');
            }
            ClusterBody::Update(recipients, change) => {
                let (kind, rooms) = match change {
                    Membership::Join(rooms) => (JOIN, rooms),
                    Membership::Leave(rooms) => (LEAVE, rooms),
                };
                self.kind = kind;
                self.push_recipients(recipients);
                push_changed_rooms(&mut self.json, change, rooms);
            }
            ClusterBody::Disconnect(recipients, close) => {
                self.kind = DISCONNECT;
                self.push_recipients(recipients);
                self.json.push_str(if *close { r#""close":true"# } else { r#""close":false"# });
            }
            ClusterBody::Fetch(recipients) => {
                self.kind = FETCH;
                self.push_recipients(recipients);
            }
            ClusterBody::ServerSideEmit(name, args) => {
                self.kind = SERVER_SIDE_EMIT;
                check_server_side_name(name)?;
                self.json.push_str(r#""packet":"#);
                self.push_event(name, args)?;
            }
            ClusterBody::Response(response) => self.push_response(response)?,
        }
        Ok(())
    }

    fn push_response(&mut self, response: &'m Response) -> Result<(), EncodeError> {
        match response {
            Response::Sockets(sockets) => {
                self.kind = FETCH_RESPONSE;
                self.json.push_str(r#""sockets":["#);
                for (index, socket) in sockets.iter().enumerate() {
                    if index > 0 {
                        self.json.push(',');
                    }
                    socket.push(&mut self.json);
                }
                self.json.push(']');
            }
            Response::ServerSide(args) => {
                self.kind = SERVER_SIDE_EMIT_RESPONSE;
                self.push_value(args)?;
            }
            Response::ClientCount(count) => {
                self.kind = CLIENT_COUNT;
                self.json.push_str(r#""clientCount":"#);
                self.json.push_str(&count.to_string());
            }
            Response::Ack(args) => {
                self.kind = ACK;
                self.push_value(args)?;
            }
            Response::Ids(_) | Response::Rooms(_) | Response::Done => return Err(EncodeError::Unsupported),
        }
        Ok(())
    }

    /// Appends the options of an operation without flags. Node reads them all.
    fn push_recipients(&mut self, recipients: &Recipients) {
        push_opts_with_flags(&mut self.json, recipients, &Flags::default());
        self.json.push(',');
    }

    /// Appends `[name, ...args]`.
    fn push_event(&mut self, name: &str, args: &'m Args) -> Result<(), EncodeError> {
        check_depth(args.json())?;
        self.json.push('[');
        push_quoted(&mut self.json, name);
        if !args.json().is_empty() {
            self.json.push(',');
            self.json.push_str(args.json());
        }
        self.json.push(']');
        self.attachments = args.attachments();
        Ok(())
    }

    /// Appends the first argument; the field is absent if there is none, like `undefined` on Node.
    fn push_value(&mut self, args: &'m Args) -> Result<(), EncodeError> {
        if let Some(value) = args.iter().next() {
            check_depth(value)?;
            self.json.push_str(r#""packet":"#);
            self.json.push_str(value);
            self.attachments = args.attachments();
        }
        Ok(())
    }
}

/// Converts JSON text with placeholders to MessagePack. Nesting is counted from the outermost object, as by decoders.
pub(crate) fn packed(json: &str, attachments: &[Bytes]) -> Result<Bytes, EncodeError> {
    let values = JsonValues::new(json, attachments);
    if values.depth() > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    let binary: usize = attachments.iter().map(Bytes::len).sum();
    let mut bytes = Vec::with_capacity(json.len() + binary);
    values.write(&mut bytes);
    Ok(bytes.into())
}

fn check_depth(json: &str) -> Result<(), EncodeError> {
    if JsonValues::new(json, &[]).depth() > MAX_DEPTH { Err(EncodeError::TooDeep) } else { Ok(()) }
}
