// The command `roomcast serve --redis-sentinel --redis-tls`: sentinels and their master with TLS.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SocketIoMember } from "../lib/members.js";
import { until } from "../lib/cluster.js";
import { request } from "../lib/http.js";
import { startRedis, startSentinel } from "../lib/redis.js";
import { lastingPort, startDemo } from "../lib/server.js";

const certificate = (name) => fileURLToPath(new URL(`../../crates/server/tests/certificates/${name}`, import.meta.url));
const SECRETS = ["master-hunter2", "sentinel-hunter2"];

let redis;
let sentinel;
let flags;

before(async () => {
  const [master, port] = [await lastingPort(), await lastingPort()];
  const tls = (port) => [
    ["tls-port", port],
    ["tls-cert-file", certificate("one.crt")],
    ["tls-key-file", certificate("one.key")],
    ["tls-ca-cert-file", certificate("one.crt")],
    ["tls-auth-clients", "no"],
    ["tls-replication", "yes"],
  ];
  redis = await startRedis([...tls(master), ["requirepass", SECRETS[0]]].flatMap(([name, value]) => [`--${name}`, `${value}`]));
  const lines = [...tls(port), ["requirepass", SECRETS[1]]].map((words) => words.join(" "));
  sentinel = await startSentinel([...lines, `sentinel monitor main 127.0.0.1 ${master} 1`, `sentinel auth-pass main ${SECRETS[0]}`]);
  [process.env.ROOMCAST_REDIS_PASSWORD, process.env.ROOMCAST_REDIS_SENTINEL_PASSWORD] = SECRETS;
  flags = { "redis-sentinel": `127.0.0.1:${port}`, "redis-master": "main", "redis-tls": true, "admin-addr": "127.0.0.1:0" };
});

after(async () => {
  await sentinel?.stop();
  await redis?.stop();
});

async function status(server) {
  const [, address] = /metrics +(http:\/\/[^/]+)\/metrics/.exec(server.output);
  return (await request(`${address}/ready`)).body.trim().split("cluster ")[1];
}

const checkSecrets = (server) => SECRETS.forEach((secret) => assert(!server.output.includes(secret), server.output));

for (const mode of ["native", "classic"]) {
  test(`${mode} servers connect with TLS`, async () => {
    const options = { ...flags, "redis-mode": mode, "redis-ca-file": certificate("one.crt") };
    const servers = await Promise.all([startDemo(0, options), startDemo(0, options)]);
    const members = await Promise.all(servers.map((server) => new SocketIoMember(server.url, 4, "websocket").connected()));
    try {
      for (const server of servers) await until(async () => (await status(server)) === "connected", "connected");
      await until(async () => {
        await members[0].request("everyone", "hello");
        return members[1].log.some(([event]) => event === "everyone");
      }, "an event of the other server");
      servers.forEach(checkSecrets);
    } finally {
      await Promise.all(members.map((member) => member.close()));
      await Promise.all(servers.map((server) => server.stop()));
    }
  });

  test(`a ${mode} server refuses an unknown certificate`, async () => {
    const server = await startDemo(0, { ...flags, "redis-mode": mode, "redis-ca-file": certificate("two.crt") });
    try {
      await until(() => server.output.includes("redis connection lost"), "logged");
      assert.match(server.output, /connecting to 127\.0\.0\.1:\d+: invalid peer certificate: UnknownIssuer/);
      await until(async () => (await status(server)) === "degraded", "degraded");
      checkSecrets(server);
    } finally {
      await server.stop();
    }
  });
}
