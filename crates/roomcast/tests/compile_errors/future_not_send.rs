use std::rc::Rc;

use roomcast::{Socket, debug_handler};

#[debug_handler]
async fn count(socket: Socket, number: u32) {
    let number = Rc::new(number);
    socket.writable().await;
    println!("{number}");
}

fn main() {
    let _ = count;
}
