// A Redis server for a test, on a free port and without a file.
import { spawn } from "node:child_process";
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

// A failed test stops its servers.
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
