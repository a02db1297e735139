import { once } from "../script.js";

export const subject = "enabled transports";

const POLL = "?EIO=4&transport=polling";
const SOCKET = "?EIO=4&transport=websocket";
const webSocketOnly = { transports: "websocket" };
const staying = { "no-upgrades": true };

export const scripts = [
  once("WebSocket only: a session offers no upgrades", async (stage) => {
    const peer = await stage.websocket("a", SOCKET);
    await peer.hear();
  }, { flags: webSocketOnly }),
  once("WebSocket only: polling is rejected", async (stage) => {
    await stage.http("a", POLL);
    await stage.http("a", POLL, { method: "POST", body: "40" });
    await stage.http("a", `${POLL}&sid=nobody`);
  }, { flags: webSocketOnly }),
  once("WebSocket only: its session serves no polls", async (stage) => {
    const peer = await stage.join("a");
    await peer.fetch();
    await peer.emit("echo", "still here");
    await peer.hear();
  }, { flags: webSocketOnly }),
  once("no upgrades: a polling session offers none", (stage) => stage.http("a", POLL), { flags: staying }),
  once("no upgrades: a session may begin as WebSocket", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("echo", 1);
    await peer.hear();
  }, { flags: staying }),
  once("no upgrades: a WebSocket that tries an upgrade", async (stage) => {
    const peer = await stage.join("a");
    const other = await stage.candidate(peer);
    if (other.socket) {
      await other.send("2probe");
      await other.closed(400);
    }
    await stage.settled();
    await peer.emit("echo", "still here");
    await peer.hear();
  }, { flags: staying, carriers: ["polling"] }),
];
