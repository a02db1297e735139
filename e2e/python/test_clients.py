"""python-socketio (threaded and asyncio) and websocket-client on the conformance application.

Run with the packages of requirements.txt: python -m unittest -v test_clients.py
ROOMCAST_BIN_DIR and ROOMCAST_E2E_TARGET apply as for the other clients; see ../README.md.
"""

import asyncio
import os
import queue
import re
import select
import subprocess
import time
import unittest
from pathlib import Path

import engineio.payload
import socketio
import websocket

# python-engineio rejects bodies of more than 16 packets, but servers batch all pending packets.
engineio.payload.Payload.max_decode_packets = 1000

ROOT = Path(__file__).resolve().parents[2]
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}
ARGUMENTS = (1, "déjà 👩‍🚀", {"nested": [True, None, {"deep": []}]}, b"\x01\x02\x03", {"bytes": [b"", b"x" * 70_000]})
# Only failures wait that long, so it is far more than a busy machine needs.
PATIENCE = 20
# A client that answers no ping is closed after two seconds; a slow one has most of that time to answer.
QUICK = {"ping_interval": 300, "ping_timeout": 1_700}
LONGER = 2.5


class Server:
    """Server under test on a free port."""

    def __init__(self, **flags):
        arguments = ["--port", "0"]
        for name, value in flags.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(
            command() + arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self._address()

    def _address(self):
        deadline = time.monotonic() + PATIENCE
        while select.select([self.process.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
            line = self.process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                return found.group()
            if not line:
                break
        self.stop()
        raise RuntimeError(f"{self.process.args} printed no address within {PATIENCE} s, or ended")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def command():
    if os.environ.get("ROOMCAST_E2E_TARGET") == "node":
        return ["node", str(ROOT / "e2e" / "reference" / "conformance.js")]
    folder = Path(os.environ.get("ROOMCAST_BIN_DIR") or ROOT / "target" / "debug")
    for place in (folder / "conformance_server", folder / "examples" / "conformance_server"):
        if place.exists():
            return [str(place)]
    raise FileNotFoundError(
        f"no conformance_server in {folder}; run `cargo build --bins --examples`, set ROOMCAST_BIN_DIR to the "
        "folder it was built in, or ROOMCAST_E2E_TARGET=node to test the reference server"
    )


def setUpModule():
    global calm, quick
    calm = Server(ping_interval=25_000, ping_timeout=20_000, connect_timeout=45_000)
    quick = Server(**QUICK, connect_timeout=45_000)


def tearDownModule():
    calm.stop()
    quick.stop()


class ThreadedClient(unittest.TestCase):
    """socketio.Client"""

    def connect(self, mode, namespaces, server=None, **options):
        client = socketio.Client(reconnection=False)
        self.addCleanup(client.disconnect)
        heard = {}
        for namespace in namespaces:
            heard[namespace] = queue.Queue()
            client.on(
                "*", lambda event, *args, into=heard[namespace]: into.put((event, args)), namespace=namespace
            )
        client.connect(
            (server or calm).url,
            transports=TRANSPORTS[mode],
            namespaces=namespaces,
            wait_timeout=PATIENCE,
            **options,
        )
        self.assertEqual(client.transport(), "polling" if mode == "polling" else "websocket")
        return client, heard

    def test_joins_both_namespaces_with_auth(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, heard = self.connect(mode, ["/", "/custom"], auth={"token": "123"})
                for namespace in ("/", "/custom"):
                    self.assertEqual(heard[namespace].get(timeout=PATIENCE), ("auth", ({"token": "123"},)))
                self.assertNotEqual(client.get_sid("/"), client.get_sid("/custom"))

    def test_echoes_arguments_and_binary(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, heard = self.connect(mode, ["/"])
                self.assertEqual(heard["/"].get(timeout=PATIENCE), ("auth", ({},)))
                client.emit("message", ARGUMENTS)
                self.assertEqual(heard["/"].get(timeout=PATIENCE), ("message-back", ARGUMENTS))

    def test_receives_ack_with_binary(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, _ = self.connect(mode, ["/"])
                answer = client.call("message-with-ack", ARGUMENTS, timeout=PATIENCE)
                self.assertEqual(tuple(answer), ARGUMENTS)

    def test_is_rejected_by_unknown_namespace(self):
        for mode in TRANSPORTS:
            with self.subTest(mode), self.assertRaises(socketio.exceptions.ConnectionError):
                self.connect(mode, ["/random"])

    def test_keeps_event_order(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, heard = self.connect(mode, ["/"])
                self.assertEqual(heard["/"].get(timeout=PATIENCE)[0], "auth")
                for number in range(200):
                    client.emit("message", number)
                back = [heard["/"].get(timeout=PATIENCE) for _ in range(200)]
                self.assertEqual(back, [("message-back", (number,)) for number in range(200)])

    def test_stays_connected_over_many_heartbeats(self):
        clients = [self.connect(mode, ["/"], quick)[0] for mode in TRANSPORTS]
        time.sleep(LONGER)
        for client in clients:
            self.assertEqual(client.call("message-with-ack", "alive", timeout=PATIENCE), "alive")


class AsyncClient(unittest.IsolatedAsyncioTestCase):
    """socketio.AsyncClient"""

    async def connect(self, mode, namespaces, server=None, **options):
        client = socketio.AsyncClient(reconnection=False)
        self.addAsyncCleanup(client.disconnect)
        heard = {}
        for namespace in namespaces:
            heard[namespace] = asyncio.Queue()
            client.on(
                "*", lambda event, *args, into=heard[namespace]: into.put_nowait((event, args)), namespace=namespace
            )
        await client.connect(
            (server or calm).url,
            transports=TRANSPORTS[mode],
            namespaces=namespaces,
            wait_timeout=PATIENCE,
            **options,
        )
        self.assertEqual(client.transport(), "polling" if mode == "polling" else "websocket")
        return client, heard

    async def test_joins_both_namespaces_with_auth(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, heard = await self.connect(mode, ["/", "/custom"], auth={"token": "123"})
                for namespace in ("/", "/custom"):
                    greeting = await asyncio.wait_for(heard[namespace].get(), PATIENCE)
                    self.assertEqual(greeting, ("auth", ({"token": "123"},)))
                self.assertNotEqual(client.get_sid("/"), client.get_sid("/custom"))

    async def test_echoes_arguments_and_binary(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, heard = await self.connect(mode, ["/"])
                self.assertEqual(await asyncio.wait_for(heard["/"].get(), PATIENCE), ("auth", ({},)))
                await client.emit("message", ARGUMENTS)
                self.assertEqual(await asyncio.wait_for(heard["/"].get(), PATIENCE), ("message-back", ARGUMENTS))

    async def test_receives_ack_with_binary(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, _ = await self.connect(mode, ["/"])
                answer = await client.call("message-with-ack", ARGUMENTS, timeout=PATIENCE)
                self.assertEqual(tuple(answer), ARGUMENTS)

    async def test_handles_many_acks_at_once(self):
        for mode in TRANSPORTS:
            with self.subTest(mode):
                client, _ = await self.connect(mode, ["/"])
                questions = [client.call("message-with-ack", number, timeout=PATIENCE) for number in range(100)]
                self.assertEqual(await asyncio.gather(*questions), list(range(100)))

    async def test_stays_connected_over_many_heartbeats(self):
        clients = [(await self.connect(mode, ["/"], quick))[0] for mode in TRANSPORTS]
        await asyncio.sleep(LONGER)
        for client in clients:
            self.assertEqual(await client.call("message-with-ack", "alive", timeout=PATIENCE), "alive")


class PlainWebSocket(unittest.TestCase):
    """websocket-client"""

    def test_echoes_text_and_binary(self):
        echo = websocket.create_connection(calm.url.replace("http", "ws") + "/echo", timeout=PATIENCE)
        self.addCleanup(echo.close)
        for text in ("hello", "", "déjà 👩‍🚀", "x" * 70_000):
            echo.send(text)
            self.assertEqual(echo.recv(), text)
        for data in (b"\x00\xff", b"", b"x" * 70_000):
            echo.send_binary(data)
            self.assertEqual(echo.recv(), data)


if __name__ == "__main__":
    unittest.main()
