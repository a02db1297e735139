// A Redis server or sentinel for a test, on a free port and without data on disk.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { lastingPort } from "./server.js";

/** Starts a server; `kill`, `restart`, `freeze` and `thaw` are its faults, on the same port */
export async function startRedis(options = []) {
  const port = await lastingPort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", ...options];
  let child;
  let exited;
  const restart = async () => {
    child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
    running.add(child);
    exited = new Promise((resolve) => child.once("exit", resolve));
    await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`redis-server exited with ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => line.includes("Ready to accept") && resolve());
    });
  };
  const end = async (signal) => {
    child.kill(signal);
    await exited;
    running.delete(child);
  };
  await restart();
  return {
    port,
    get pid() {
      return child.pid;
    },
    restart,
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    freeze: () => child.kill("SIGSTOP"),
    thaw: () => child.kill("SIGCONT"),
  };
}

/** Starts a sentinel with the lines of its configuration, which it rewrites */
export async function startSentinel(lines) {
  const port = await lastingPort();
  const folder = mkdtempSync(join(tmpdir(), "roomcast-sentinel-"));
  const file = join(folder, "sentinel.conf");
  writeFileSync(file, [`port ${port}`, "bind 127.0.0.1", `dir ${folder}`, ...lines, ""].join("\n"));
  const child = spawn("redis-sentinel", [file], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const exited = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`redis-sentinel exited with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => line.includes("+monitor") && resolve());
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
    running.delete(child);
    rmSync(folder, { recursive: true });
  };
  return { port, stop };
}

// A failed test stops its servers.
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
