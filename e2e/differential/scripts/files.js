import { request } from "../../lib/http.js";
import { once } from "../script.js";

export const subject = "browser clients";
export const flags = { "client-files": true };

const NAMES = [
  "socket.io.js",
  "socket.io.min.js",
  "socket.io.esm.min.js",
  "socket.io.msgpack.min.js",
  "socket.io.min.js.map",
  "socket.io.msgpack.min.js.map",
];

export const scripts = [
  ...NAMES.map((name) => once(`the file ${name}`, (stage) => file(stage, name))),
  ...["gzip", "deflate", "gzip, deflate, br", "gzip;q=0"].map((coding) =>
    once(`for a browser that accepts ${coding}`, (stage) =>
      file(stage, "socket.io.min.js", { headers: { "accept-encoding": coding } }),
    ),
  ),
  once("with a query", (stage) => file(stage, "socket.io.js?v=4")),
  once("with HEAD", (stage) => file(stage, "socket.io.js", { method: "HEAD" })),
  once("that the browser has cached", async (stage) => {
    const { headers } = await file(stage, "socket.io.js");
    await file(stage, "socket.io.js", { headers: { "if-none-match": headers.etag } });
    await file(stage, "socket.io.js", { headers: { "if-none-match": `W/${headers.etag.replace(/^W\//, "")}` } });
    await file(stage, "socket.io.js", { headers: { "if-none-match": '"another"' } });
  }),
  once("that does not exist", (stage) => file(stage, "socket.io.unknown.js")),
  once("in a subfolder", (stage) => file(stage, "dist/socket.io.js")),
  once("for a page of another origin", (stage) =>
    file(stage, "socket.io.js", { headers: { origin: "https://page.example" } }), {
      flags: { cors: "https://page.example" },
    },
  ),
  once("when they are not served", (stage) => file(stage, "socket.io.js"), { flags: { "client-files": false } }),
];

/** Requests a file. Each server generates its own ETag */
async function file(stage, name, options = {}) {
  const peer = stage.peer("a");
  peer.line(`${options.method ?? "GET"} ${name}`);
  const answer = await request(`${stage.url}/socket.io/${name}`, options);
  const { etag } = answer.headers;
  if (etag) stage.ids.push([etag, "<etag>"]);
  peer.answer(answer);
  return answer;
}
