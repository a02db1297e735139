use roomcast::typed::Event;
use roomcast::{Io, Socket};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Add(i32, i32);

impl Event for Add {
    const NAME: &'static str = "add";
    type Answer = i32;
}

fn main() {
    Io::new().on_event(async |_: Socket, Add(a, b): Add| format!("{}", a + b));
}
