use std::rc::Rc;

use roomcast::{Io, Socket};

async fn count(socket: Socket, number: u32) {
    let number = Rc::new(number);
    socket.writable().await;
    println!("{number}");
}

fn main() {
    Io::new().on("count", count);
}
