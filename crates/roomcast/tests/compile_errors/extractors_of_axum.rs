use axum::Extension;
use axum::extract::State;
use roomcast::{Socket, debug_handler};

#[derive(Clone)]
struct App;

#[debug_handler]
async fn say(_: Socket, State(_app): State<App>, Extension(_user): Extension<String>) {}

fn main() {
    let _ = say;
}
