use roomcast::{State, debug_handler};

struct App;

#[debug_handler]
async fn say(State(_app): State<App>) {}

fn main() {
    let _ = say;
}
