"""`python fanout.py PORT MODE`: uWebSockets through socketify, with the library's own publish/subscribe.

socketify's wheel contains uWebSockets as a native library, which needs libuv (Debian: libuv1).
"""

import sys

from socketify import App, AppListenOptions, CompressOptions

if len(sys.argv) != 3 or sys.argv[2] not in ("broadcast", "echo", "room"):
    sys.exit("usage: python fanout.py PORT broadcast|echo|room")
PORT, MODE = int(sys.argv[1]), sys.argv[2]

app = App()


def subscribe(socket):
    if MODE == "broadcast":
        socket.subscribe("all")


def handle(socket, text, opcode):
    if MODE == "echo":
        socket.send(text, opcode)
    elif MODE == "broadcast":
        # The application's publish, because the socket's publish excludes the sender.
        app.publish("all", text, opcode)
    elif text.startswith("J"):
        socket.subscribe(text[1:])
    elif text.startswith("R"):
        room, _, message = text[1:].partition(" ")
        app.publish(room, message, opcode)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        "max_backpressure": 1 << 20,
        "open": subscribe,
        "message": handle,
    },
)
app.listen(AppListenOptions(port=PORT, host="127.0.0.1"))
app.run()
