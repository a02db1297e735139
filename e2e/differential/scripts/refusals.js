import { once } from "../script.js";

export const subject = "rejections reported to the application";
export const flags = { "tell-refusals": true };

const POLL = "EIO=4&transport=polling";
const SOCKET = "EIO=4&transport=websocket";

const REFUSED = [
  ["an unknown transport", "EIO=4&transport=pigeon"],
  ["no transport", "EIO=4"],
  ["an unknown session", `${POLL}&sid=nobody`],
  ["a wrong method", POLL, { method: "PUT" }],
  ["a POST without a session", POLL, { method: "POST", body: "40" }],
  ["a rejecting application", `${POLL}&deny=not%20today`],
  ["an application without a message", `${POLL}&deny=`],
  ["an unsupported revision", "EIO=3&transport=polling"],
  ["no revision", "transport=polling"],
];

const WEBSOCKETS = [
  ["an unknown transport", "EIO=4&transport=pigeon"],
  ["an unknown session", `${SOCKET}&sid=nobody`],
  ["a rejecting application", `${SOCKET}&deny=not%20today`],
];

export const scripts = [
  ...REFUSED.map(([why, query, options]) =>
    once(`a request is rejected for ${why}`, async (stage) => {
      await stage.http("a", `?${query}&script=${stage.key}`, options);
      await stage.noted(1);
    }),
  ),
  ...WEBSOCKETS.map(([why, query]) =>
    once(`a WebSocket is rejected for ${why}`, async (stage) => {
      await stage.websocket("a", `?${query}&script=${stage.key}`);
      await stage.noted(1);
    }),
  ),
  once("a plain request with transport=websocket", async (stage) => {
    await stage.http("a", `?${SOCKET}&script=${stage.key}`);
    await stage.noted(1);
  }),
  once("a poll of a WebSocket session", async (stage) => {
    const peer = await stage.join("a");
    await peer.fetch();
    await stage.noted(2);
  }),
  once("a session that ended in the meantime", async (stage) => {
    const peer = await stage.join("a");
    await peer.push("1");
    await peer.fetch();
    await stage.noted(4);
  }, { carriers: ["polling"] }),
  once("accepted requests are not reported", async (stage) => {
    const peer = await stage.join("a");
    await peer.emit("echo", 1);
    await peer.hear();
    await stage.notedOnly(1);
  }),
];
