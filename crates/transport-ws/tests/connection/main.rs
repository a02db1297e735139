//! Tests of one open WebSocket: reads, writes, the close handshake, and real sockets.

mod close;
mod deflate;
mod reads;
mod served;
mod tcp;
mod wire;
mod writes;

const FIN: u8 = 0x80;
const TEXT: u8 = FIN | 0x1;
const CLOSE: u8 = FIN | 0x8;
const PING: u8 = FIN | 0x9;

/// Builds a masked client frame with up to 125 bytes of payload.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x1d, 0x00, 0xfe, 0x77];
    let len = u8::try_from(payload.len()).ok().filter(|len| *len <= 125).expect("a short payload");
    let mut frame = vec![first, 0x80 | len];
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Builds a client's close frame.
fn client_close(code: u16) -> Vec<u8> {
    client_frame(CLOSE, &code.to_be_bytes())
}

/// Builds a server frame with up to 125 bytes of payload.
fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, u8::try_from(payload.len()).expect("a short payload")];
    frame.extend_from_slice(payload);
    frame
}

/// Builds the server's close frame.
fn server_close(code: u16, reason: &str) -> Vec<u8> {
    server_frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}
