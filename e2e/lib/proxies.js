// Reverse proxies, with the configurations from docs/operations.md.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lastingPort } from "./server.js";

/** Configuration from the only code block in this language of a document in `docs` */
export function configuration(language, document = "operations.md") {
  const blocks = readFileSync(new URL(`../../docs/${document}`, import.meta.url), "utf8").split(`\n\`\`\`${language}\n`);
  if (blocks.length !== 2) throw new Error(`expected one ${language} block in the manual, found ${blocks.length - 1}`);
  return blocks[1].split("\n```")[0];
}

/** Command per program, to run in the foreground with a configuration in its folder */
const PROGRAMS = {
  nginx: (folder, text) => {
    mkdirSync(join(folder, "tmp"));
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${folder}/tmp/${kind};`);
    // As root, nginx would switch to a user without write access to this folder.
    const user = process.getuid() === 0 ? "user root;" : "";
    const whole = `${user} daemon off; pid ${folder}/pid; error_log stderr;
      events { } http { access_log off; ${paths.join(" ")} ${text} }`;
    return ["-p", folder, "-e", "stderr", "-c", write(folder, whole)];
  },
  haproxy: (folder, text) => ["-db", "-f", write(folder, `${text}\n`)],
  caddy: (folder, text) => ["run", "--adapter", "caddyfile", "--config", write(folder, `{\n  admin off\n}\n${text}\n`)],
};

function write(folder, text) {
  const file = join(folder, "configuration");
  writeFileSync(file, text);
  return file;
}

/** Debian installs servers in folders that are only on root's PATH */
function program(name) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`no ${name}; apt-get install nginx-light haproxy caddy`);
  return found;
}

/**
 * Starts a proxy in front of a port, or of one for each port in the configuration; `port` is the proxy's. Stopped by
 * `stop` or with this process
 */
export async function startProxy(name, text, behind) {
  const folder = mkdtempSync(join(tmpdir(), "roomcast-proxy-"));
  const port = await lastingPort();
  const ports = { 8080: port, ...(typeof behind === "object" ? behind : { 3000: behind }) };
  const ported = text.replace(/\b\d{4}\b/g, (digits) => String(ports[digits] ?? digits));
  const environment = { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder };
  const child = spawn(program(name), PROGRAMS[name](folder, ported), {
    stdio: ["ignore", "pipe", "pipe"],
    env: environment,
    // A separate process group, because nginx workers survive a killed master.
    detached: true,
  });
  running.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (told) => (output += told));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const stop = async () => {
    kill(child);
    await ended;
    running.delete(child);
    rmSync(folder, { recursive: true, force: true });
  };
  for (let tries = 0; !(await isOpen(port)); tries += 1) {
    if (child.exitCode !== null || tries > 200) {
      await stop();
      throw new Error(`${name} does not listen:\n${ported}\n${output}`);
    }
    await sleep(50);
  }
  return { port, url: `http://127.0.0.1:${port}`, stop };
}

const isOpen = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const tell = (open) => (socket.destroy(), resolve(open));
    socket.once("connect", () => tell(true)).once("error", () => tell(false));
  });

function kill(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

const running = new Set();
process.once("exit", () => running.forEach(kill));
