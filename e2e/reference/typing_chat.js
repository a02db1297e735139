// A chat with typing notices on Node's implementation; ported to crates/roomcast/examples/typing_chat.rs.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { portOption } from "./options.js";

const http = createServer((_request, response) => response.writeHead(404).end());
const io = new Server(http);
let numUsers = 0;

io.on("connection", (socket) => {
  let username;

  socket.on("add user", (name) => {
    if (username !== undefined) return;
    username = name;
    numUsers += 1;
    socket.emit("login", { numUsers });
    socket.broadcast.emit("user joined", { username, numUsers });
  });

  socket.on("new message", (message) => {
    socket.broadcast.emit("new message", { username, message });
  });

  socket.on("typing", () => {
    socket.broadcast.volatile.emit("typing", { username });
  });

  socket.on("stop typing", () => {
    socket.broadcast.emit("stop typing", { username });
  });

  socket.on("disconnect", () => {
    if (username === undefined) return;
    numUsers -= 1;
    socket.broadcast.emit("user left", { username, numUsers });
  });
});

http.listen(portOption(), "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}`));
