use roomcast::{Socket, debug_handler};

#[debug_handler]
async fn many(_: Socket, _a: u8, _b: u8, _c: u8, _d: u8, _e: u8, _f: u8, _g: u8, _h: u8) {}

fn main() {
    let _ = many;
}
