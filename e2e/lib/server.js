// Servers under test: each on a free port, stopped at the end of the test file at the latest.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { settled } from "./process.js";

/** `"roomcast"`, or `"node"` for the reference server if `ROOMCAST_E2E_TARGET=node` */
export const target = process.env.ROOMCAST_E2E_TARGET || "roomcast";
if (target !== "roomcast" && target !== "node") {
  throw new Error(`ROOMCAST_E2E_TARGET is "${target}"; must be "roomcast" (default) or "node"`);
}

/** Expectations for this target, where Roomcast differs from Node on purpose */
export const byTarget = (expectations) => expectations[target];

/** Timings without pings and timeouts during a test */
export const CALM = { "ping-interval": 25000, "ping-timeout": 20000, "connect-timeout": 45000 };

/** Timings of the protocol suites, in milliseconds */
export const QUICK = { "ping-interval": 300, "ping-timeout": 200 };

/** Starts the conformance application with the given flags, such as `{ "max-payload": 100 }` */
export function startConformance(flags = CALM) {
  const args = ["--port", "0", ...words(flags)];
  return target === "node"
    ? start(process.execPath, [reference("conformance.js"), ...args])
    : start(binary("conformance_server"), args);
}

/** Starts the demo application, `roomcast serve`, on a free port unless one is given */
export function startDemo(port = 0, flags = {}) {
  const args = ["serve", "--addr", `127.0.0.1:${port}`, ...words(flags)];
  return target === "node"
    ? start(process.execPath, [reference("demo.js"), ...args])
    : start(binary("roomcast"), args);
}

/**
 * A free port for a server that restarts on it.
 *
 * Below the ephemeral range, so that no other process gets it in between.
 */
export async function lastingPort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const probe = createServer();
    const isFree = await new Promise((resolve) => {
      probe.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}

/** Starts an example that takes `--port`, on a free one by default; a flag that is `true` takes no value */
export function startExample(name, flags = {}) {
  return start(binary(name), words({ port: 0, ...flags }));
}

/**
 * Starts a server in a cluster of Node servers: `"roomcast"`, or on Node by the library for Redis; several ports are
 * those of a Redis Cluster
 */
export function startClusterServer(on, redis, flags) {
  const hosts = [redis].flat().map((port) => `127.0.0.1:${port}`);
  if (on === "roomcast") return startExample("cluster_server", { redis: `redis://${hosts.join(",")}`, ...flags });
  return start(process.execPath, [reference("cluster.js"), ...words({ redis, library: on, ...flags })]);
}

/** Starts a server on `"node"` or `"roomcast"` whose clients recover on any server that uses the same Redis */
export function startRecovery(on, redis, flags) {
  if (on === "node") return start(process.execPath, [reference("recovery.js"), ...words({ redis, ...flags })]);
  return startExample("recovery_server", { threads: 2, redis: `redis://127.0.0.1:${redis}`, ...flags });
}

/** Starts `cargo xtask two-nodes` with the built command; `port` is that of the load balancer */
export function startTwoNodes() {
  return start(binary("xtask"), ["two-nodes", "--port", "0", "--programs", dirname(binary("roomcast"))]);
}

/** Starts an application ported from Node, by the name of its file */
export function startApplication(name) {
  return target === "node"
    ? start(process.execPath, [reference(`${name}.js`), "--port", "0"])
    : start(binary(name), ["--port", "0"]);
}

/** Starts the application of the differential test on `"node"` or `"roomcast"`; a flag that is `true` has no value */
export function startDifferential(on, flags = {}) {
  // The reference has one thread.
  const { threads = 1, ...shared } = flags;
  const args = ["--port", "0", ...words(shared)];
  return on === "node"
    ? start(process.execPath, [reference("differential.js"), ...args])
    : start(binary("differential_server"), [...args, "--threads", String(threads)]);
}

/** Command-line flags; `true` is a flag without a value, and `false` is none */
const words = (flags) =>
  Object.entries(flags)
    .filter(([, value]) => value !== false)
    .flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, String(value)]));

/** A running server: `url` such as `http://127.0.0.1:4321`, `port`, and its `output` so far */
class Server {
  constructor(child) {
    this.child = child;
    this.output = "";
    this.exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  }

  freeze() {
    this.child.kill("SIGSTOP");
  }

  thaw() {
    this.child.kill("SIGCONT");
  }

  get url() {
    return `${this.scheme}://127.0.0.1:${this.port}`;
  }

  /** Waits until the server has handled all input */
  settled() {
    return settled(this.child.pid);
  }

  /** Stops the server, and kills it after five seconds. Resolves to its exit code or signal */
  async stop() {
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    const outcome = await this.exited;
    clearTimeout(late);
    running.delete(this.child);
    return outcome;
  }
}

function start(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const server = new Server(child);
  return new Promise((resolve, reject) => {
    const fail = (why) => {
      clearTimeout(late);
      child.kill("SIGKILL");
      reject(new Error(`${command} ${args.join(" ")}: ${why}\n${server.output}`));
    };
    const late = setTimeout(() => fail("printed no http://127.0.0.1:PORT within 30 s"), 30_000);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code, signal) => fail(`exited with ${code ?? signal} before it was ready`));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        server.output += text;
        const ready = /(https?):\/\/127\.0\.0\.1:(\d+)/.exec(server.output);
        if (!ready || server.port) return;
        clearTimeout(late);
        server.scheme = ready[1];
        server.port = Number(ready[2]);
        resolve(server);
      });
    }
  });
}

/** Path of a program or example built by cargo */
export function binary(name) {
  const folder = process.env.ROOMCAST_BIN_DIR || fileURLToPath(new URL("../../target/debug", import.meta.url));
  const places = [join(folder, name), join(folder, "examples", name)];
  const found = places.find((place) => existsSync(place));
  if (found) return found;
  throw new Error(
    `no ${name} in ${folder}; run \`cargo build --bins --examples\`, or set ROOMCAST_BIN_DIR ` +
      "to the folder it was built in, or ROOMCAST_E2E_TARGET=node to test the reference server",
  );
}

function reference(file) {
  return fileURLToPath(new URL(`../reference/${file}`, import.meta.url));
}

// A client left over by a failed test would block the end of the file, and the report of the failure.
after(() => {
  const late = setTimeout(() => {
    console.error(`still open after all tests: ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  }, 30_000);
  late.unref();
});

// An interrupted test run stops its servers.
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
