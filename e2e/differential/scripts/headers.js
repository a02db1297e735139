import { once } from "../script.js";

export const subject = "CORS and cookies";
export const flags = { cors: "https://page.example", cookie: "io" };

const POLL = "?EIO=4&transport=polling";
const page = { origin: "https://page.example" };
const stranger = { origin: "https://stranger.example" };
const any = { cors: "*" };
const preflight = { "access-control-request-method": "POST", "access-control-request-headers": "x-token" };

export const scripts = [
  once("an allowed page, which gets a cookie", (stage) => stage.http("a", POLL, { headers: page })),
  once("a preflight of an allowed page", (stage) =>
    stage.http("a", POLL, { method: "OPTIONS", headers: { ...page, ...preflight } }),
  ),
  once("a preflight without requested headers", (stage) =>
    stage.http("a", POLL, { method: "OPTIONS", headers: { ...page, "access-control-request-method": "GET" } }),
  ),
  once("a rejection that an allowed page can read", (stage) => stage.http("a", `${POLL}&sid=nobody`, { headers: page })),
  once("a request without an origin", (stage) => stage.http("a", POLL)),
  once("a cookie only in the first response", async (stage) => {
    const peer = await stage.join("a", { carrier: "polling", headers: page });
    await peer.push('42["echo",1]', { headers: page });
    await peer.fetch({ headers: page });
  }),
  once("no cookie over WebSocket", async (stage) => {
    const peer = await stage.websocket("a", "?EIO=4&transport=websocket", { headers: page });
    peer?.line(`set-cookie: ${peer.socket.handshakeHeaders?.["set-cookie"]}`);
  }),
  once("any page: a request", (stage) => stage.http("a", POLL, { headers: stranger }), { flags: any }),
  once("any page: a preflight", (stage) =>
    stage.http("a", POLL, { method: "OPTIONS", headers: { ...stranger, ...preflight } }), { flags: any },
  ),
  once("any page: a rejection", (stage) => stage.http("a", "?EIO=4", { headers: stranger }), { flags: any }),
];
