import { once } from "../script.js";

export const subject = "handshake";

const POLL = "?EIO=4&transport=polling";
const SOCKET = "?EIO=4&transport=websocket";

/** Requests that are answered at once */
const requests = [
  ["opens a session", "GET", POLL],
  ["opens a session with unknown parameters", "GET", `${POLL}&t=abc&b64=1&x=y`],
  ["below the path", "GET", POLL, { path: "/socket.io/deeper/" }],
  ["beside the path", "GET", POLL, { path: "/socket.io" }],
  ["at an unknown path", "GET", POLL, { path: "/nothing/" }],
  ["without EIO", "GET", "?transport=polling"],
  ["with EIO 3", "GET", "?EIO=3&transport=polling"],
  ["with EIO 5", "GET", "?EIO=5&transport=polling"],
  ["with EIO 04", "GET", "?EIO=04&transport=polling"],
  ["with an EIO that is not a number", "GET", "?EIO=abc&transport=polling"],
  ["without a transport", "GET", "?EIO=4"],
  ["with neither", "GET", ""],
  ["with an unknown transport", "GET", "?EIO=4&transport=pigeon"],
  ["with a transport that plain requests cannot use", "GET", SOCKET],
  ["with webtransport", "GET", "?EIO=4&transport=webtransport"],
  ["with an unknown session", "GET", `${POLL}&sid=nobody`],
  ["with an empty session id", "GET", `${POLL}&sid=`],
  ["by POST", "POST", POLL, { body: "4x" }],
  ["by POST with an unknown session", "POST", `${POLL}&sid=nobody`, { body: "4x" }],
  ["by PUT", "PUT", POLL],
  ["by DELETE", "DELETE", POLL],
  ["by OPTIONS", "OPTIONS", POLL],
  ["by HEAD", "HEAD", POLL],
  ["with an unknown session before a wrong EIO", "GET", "?EIO=3&transport=polling&sid=nobody"],
];

const webSockets = [
  ["opens a session", SOCKET],
  ["without EIO", "?transport=websocket"],
  ["with EIO 3", "?EIO=3&transport=websocket"],
  ["without a transport", "?EIO=4"],
  ["with an unknown transport", "?EIO=4&transport=pigeon"],
  ["with an unknown session", `${SOCKET}&sid=nobody`],
  ["with transport=polling", POLL],
];

export const scripts = [
  ...requests.map(([what, method, query, options]) =>
    once(`request ${what}`, (stage) => stage.http("a", query, { method, ...options })),
  ),
  ...webSockets.map(([what, query]) =>
    once(`WebSocket ${what}`, async (stage) => {
      const peer = await stage.websocket("a", query);
      if (peer && !(await peer.hear())?.closed) await peer.quiet(100);
    }),
  ),
  once("the application rejects it, with and without a message", async (stage) => {
    await stage.http("a", `${POLL}&deny=not%20today`);
    await stage.http("a", `${POLL}&deny=`);
    await stage.websocket("a", `${SOCKET}&deny=not%20today`);
  }),
  once("two sessions of one client have different ids", async (stage) => {
    await stage.http("a", POLL);
    await stage.http("a", POLL);
  }),
  once("the request as seen by a handler", async (stage) => {
    const query = "&word=a%20b&plus=a+b&twice=1&twice=2&empty=&flag&%26%3D=%3F";
    const peer = await stage.join("a", { query, headers: { "x-told": "from the client" } });
    await peer.ask({ do: "handshake" });
  }),
  once("the request as seen by a handler after an upgrade", async (stage) => {
    const peer = await stage.join("a", { carrier: "upgraded", query: "&at=first" });
    await peer.ask({ do: "handshake" });
  }),
];
