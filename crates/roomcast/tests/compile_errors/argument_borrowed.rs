use roomcast::{Socket, debug_handler};

#[debug_handler]
async fn say(_: Socket, text: &str, _bytes: &[u8], _all: Option<&String>) {
    println!("{text}");
}

#[debug_handler]
fn say_at_once(_: &Socket, text: &str) {
    println!("{text}");
}

fn main() {
    let _ = say;
    let _ = say_at_once;
}
