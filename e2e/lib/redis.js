// A Redis server for a test, on a free port and without a file.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { lastingPort } from "./server.js";

export async function startRedis() {
  const port = await lastingPort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  let child;
  let exited;
  /** Starts it, or starts it again on its port after `kill` */
  const start = async () => {
    child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
    exited = new Promise((resolve) => child.once("exit", resolve));
    await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`redis-server exited with ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => line.includes("Ready to accept") && resolve());
    });
  };
  const end = (signal) => async () => {
    child.kill(signal);
    await exited;
  };
  await start();
  const freeze = () => child.kill("SIGSTOP");
  const thaw = () => child.kill("SIGCONT");
  return { port, start, stop: end("SIGTERM"), kill: end("SIGKILL"), freeze, thaw };
}
