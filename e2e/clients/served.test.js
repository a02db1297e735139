// The official browser clients, served as by Node's server.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync, inflateSync } from "node:zlib";
import { Server } from "socket.io";
import { request } from "../lib/http.js";
import { startDemo, target } from "../lib/server.js";

const FOLDER = fileURLToPath(new URL("../node_modules/socket.io/client-dist/", import.meta.url));

describe("the official clients", { skip: target === "node" && "compared with Node's below" }, () => {
  let ours;
  let node;
  let theirs;
  before(async () => {
    ours = (await startDemo(0, { "serve-client": FOLDER }));
    node = createServer((_request, response) => response.writeHead(404).end());
    new Server(node);
    await new Promise((resolve) => node.listen(0, "127.0.0.1", resolve));
    theirs = `http://127.0.0.1:${node.address().port}`;
  });
  after(async () => {
    await ours?.stop();
    node?.closeAllConnections();
    node?.close();
  });

  test("are installed", () => assert.ok(existsSync(FOLDER) && readdirSync(FOLDER).length === 8));

  for (const name of readdirSync(FOLDER)) {
    test(`${name} is served as on Node`, async () => {
      const path = `/socket.io/${name}`;
      const [mine, other] = [await request(ours.url + path), await request(theirs + path)];
      assert.deepEqual(mine.bytes, readFileSync(join(FOLDER, name)));
      assert.deepEqual([mine.status, mine.bytes], [other.status, other.bytes]);
      for (const header of ["content-type", "cache-control", "content-encoding"]) {
        assert.equal(mine.headers[header], other.headers[header], header);
      }
      for (const url of [ours.url, theirs]) {
        const { etag } = (await request(url + path)).headers;
        for (const known of [etag, `W/${etag}`]) {
          assert.equal((await request(url + path, { headers: { "if-none-match": known } })).status, 304, url);
        }
        assert.equal((await request(url + path, { headers: { "if-none-match": '"other"' } })).status, 200, url);
      }
    });

    test(`${name} is compressed as on Node`, async () => {
      for (const [coding, decode] of [["gzip", gunzipSync], ["deflate", inflateSync]]) {
        for (const url of [ours.url, theirs]) {
          const { headers, bytes } = await request(`${url}/socket.io/${name}`, { headers: { "accept-encoding": coding } });
          assert.equal(headers["content-encoding"], coding, url);
          assert.deepEqual(decode(bytes), readFileSync(join(FOLDER, name)), url);
        }
      }
    });
  }

  test("serves no other files", async () => {
    for (const url of [ours.url, theirs]) {
      for (const name of ["package.json", "..%2fpackage.json", "socket.io.js%00"]) {
        assert.equal((await request(`${url}/socket.io/${name}`)).status, 400, `${url} ${name}`);
      }
    }
  });
});
