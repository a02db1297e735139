use roomcast::{Io, Socket};

fn main() {
    let greeting = String::from("hello");
    Io::new().on("greet", async move |socket: Socket| {
        let _ = socket.emit("greeting", &greeting);
    });
}
