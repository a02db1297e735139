use roomcast::{Socket, debug_handler};

#[debug_handler]
async fn say(socket: &Socket, text: String) {
    let _ = socket.emit("said", text);
}

#[debug_handler]
fn say_at_once(text: String, socket: &Socket) {
    let _ = socket.emit("said", text);
}

fn main() {
    let _ = say;
    let _ = say_at_once;
}
