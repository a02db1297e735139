// The load balancers of docs/scaling.md: polling sessions stay on their server, and move to another when it stops.
import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { request } from "../lib/http.js";
import { until } from "../lib/members.js";
import { PATIENCE } from "../lib/patience.js";
import { configuration, startProxy } from "../lib/proxies.js";
import { startDemo } from "../lib/server.js";

const CLIENTS = 12;
const FLAGS = { "trusted-proxy": "127.0.0.1", "admin-addr": "127.0.0.1:0" };

const adminPort = (server) => Number(/metrics +http:\/\/127\.0\.0\.1:(\d+)/.exec(server.output)[1]);

async function sessions(server) {
  const text = (await request(`http://127.0.0.1:${adminPort(server)}/metrics`)).body;
  const lines = text.split("\n").filter((line) => line.startsWith("roomcast_sessions{"));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);
}

for (const program of ["nginx", "haproxy"]) {
  for (const transports of [["polling"], ["polling", "websocket"]]) {
    test(`${program} keeps sessions by ${transports.join(" and ")} on their server`, async () => {
      const servers = await Promise.all([startDemo(0, FLAGS), startDemo(0, FLAGS)]);
      const [one, two] = servers;
      const ports = { 3001: one.port, 3002: two.port, 9001: adminPort(one), 9002: adminPort(two) };
      const proxy = await startProxy(program, configuration(program, "scaling.md"), ports);
      const options = { transports, withCredentials: true, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
      const clients = Array.from({ length: CLIENTS }, () => io(proxy.url, options));
      const lost = [];
      clients.forEach((client) => client.on("disconnect", (reason) => lost.push(reason)));
      try {
        for (const client of clients) {
          await until(() => client.connected, `${program}: no connect`);
          if (transports.length > 1) await until(() => client.io.engine.transport.name === "websocket", `${program}: no upgrade`);
        }
        for (let round = 0; round < 20; round += 1) {
          const echoes = clients.map((client) => client.timeout(PATIENCE).emitWithAck("join", `room ${round}`));
          assert((await Promise.all(echoes)).every(({ ok }) => ok));
        }
        assert.deepEqual(lost, []);
        const counts = await Promise.all(servers.map(sessions));
        assert.equal(counts[0] + counts[1], CLIENTS);
        assert(counts.every((count) => count > 0), `both servers have sessions: ${counts}`);
        // Its clients move to the other server. A client between two polls would delay the shutdown.
        await new Promise((resolve) => setTimeout(resolve, 300));
        await one.stop();
        const deadline = Date.now() + PATIENCE;
        while ((await sessions(two)) < CLIENTS || !clients.every((client) => client.connected)) {
          assert(Date.now() < deadline, `${await sessions(two)} of ${CLIENTS} sessions on the other server`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        assert.equal(lost.length, counts[0]);
      } finally {
        clients.forEach((client) => client.close());
        await proxy.stop();
        await Promise.all(servers.map((server) => server.stop()));
      }
    });
  }
}
