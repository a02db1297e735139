// A Redis server for a test, on a free port and without a file.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { lastingPort } from "./server.js";

export async function startRedis() {
  const port = await lastingPort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`redis-server exited with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => line.includes("Ready to accept") && resolve());
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { port, stop };
}
