// Plain HTTP/1.1 with what `fetch` does not allow: unfinished bodies, aborted requests, arbitrary headers.
import { Agent, request as send } from "node:http";
import { connect } from "node:net";
import { PATIENCE } from "./patience.js";

/** Sends a request. Resolves to `{ status, headers, body }`, with the body as text and as `bytes` */
export function request(url, { body, ...options } = {}) {
  const exchange = begin(url, options);
  exchange.end(body);
  return exchange.response;
}

/**
 * A request with an open body: `write`, `end`, `abort`, and the `response` as a promise.
 *
 * Without a `content-length` header the body is chunked.
 */
export function begin(url, { method = "GET", headers = {}, within = PATIENCE, agent = shared } = {}) {
  const outgoing = send(url, { method, headers, agent });
  const response = new Promise((resolve, reject) => {
    const late = setTimeout(
      () => outgoing.destroy(new Error(`${method} ${url}: no response within ${within} ms`)),
      within,
    );
    outgoing.on("close", () => clearTimeout(late));
    outgoing.on("error", reject);
    outgoing.on("response", (incoming) => {
      const parts = [];
      incoming.on("data", (part) => parts.push(part));
      incoming.on("error", reject);
      incoming.on("end", () => {
        const bytes = Buffer.concat(parts);
        const { statusCode: status, headers } = incoming;
        resolve({ status, headers, bytes, body: bytes.toString("utf8") });
      });
    });
  });
  // An aborted request emits an error, which needs a listener.
  response.catch(() => {});
  return {
    response,
    write: (part) => outgoing.write(part),
    end: (part) => outgoing.end(part),
    abort: () => outgoing.destroy(),
  };
}

/** Sends raw bytes and resolves to everything received until the server closes the connection */
export function rawExchange(port, text, { within = PATIENCE } = {}) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    let answer = "";
    const late = setTimeout(() => {
      socket.destroy();
      reject(new Error(`the server kept the connection open for ${within} ms; so far it sent: ${answer}`));
    }, within);
    socket.setEncoding("latin1");
    socket.on("data", (part) => (answer += part));
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(late);
      resolve(answer);
    });
  });
}

/** Closes idle keep-alive connections */
export function dropIdle() {
  shared.destroy();
}

const shared = new Agent({ keepAlive: true, timeout: 3000 });
