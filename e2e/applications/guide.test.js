// The migration guide from Node names every call of Node's server API, as listed by its types.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const file = (path) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf8");
const guide = file("../../docs/migration.md");

/** Public members of a socket.io class: methods, getters and fields */
function members(module, name) {
  const text = file(`../node_modules/socket.io/dist/${module}.d.ts`);
  const start = new RegExp(`^export declare (abstract )?class ${name}\\b`, "m").exec(text);
  assert.ok(start, `${module}.d.ts declares ${name}`);
  const body = text.slice(start.index);
  // Private members are preceded by `private` and do not match.
  const lines = body.slice(0, body.search(/^}/m)).split("\n");
  const found = lines.map((line) => /^    (?:(?:readonly|async|get|static) )*(\w+)\??(?:<[^(]*>)?[(:]/.exec(line)?.[1]);
  return [...new Set(found)].filter((member) => member && !member.startsWith("_") && member !== "constructor");
}

// Members inherited from Node's emitter and the typed emitter.
const EMITTER = ["on", "once", "off", "emit", "emitWithAck", "listeners", "removeAllListeners"];

const CLASSES = [
  { module: "index", name: "Server", prefixes: ["io"], more: ["on", "emit", "serverSideEmit"] },
  { module: "namespace", name: "Namespace", prefixes: ["io", "namespace", "io.sockets"], more: ["on", "emit"] },
  { module: "parent-namespace", name: "ParentNamespace", prefixes: ["parent", "io", "namespace"], more: [] },
  { module: "socket", name: "Socket", prefixes: ["socket"], more: EMITTER },
  { module: "broadcast-operator", name: "BroadcastOperator", prefixes: ["io", 'io.in("red")', "io.timeout(…)"], more: ["emit", "emitWithAck"] },
  { module: "broadcast-operator", name: "RemoteSocket", prefixes: ["remote"], more: ["emit"] },
];

/** Minimum numbers, as a check that the types are parsed */
const LEAST = { Server: 30, Namespace: 20, ParentNamespace: 3, Socket: 40, BroadcastOperator: 15, RemoteSocket: 8 };

// Implementation details exposed by the types.
const INNER = ["encoder"];

describe("the migration guide from Node", () => {
  for (const { module, name, prefixes, more } of CLASSES) {
    test(`names every call of ${name}`, () => {
      const public_ = [...members(module, name), ...more].filter((member) => !INNER.includes(member));
      assert.ok(public_.length >= LEAST[name], `only found ${public_}`);
      const missing = public_.filter((member) => !prefixes.some((prefix) => names(prefix, member)));
      assert.deepEqual(missing, []);
    });
  }

  test("names every option", () => {
    const engine = file("../node_modules/engine.io/build/server.d.ts");
    const server = file("../node_modules/socket.io/dist/index.d.ts");
    const options = [...declared(engine, "ServerOptions"), ...declared(engine, "AttachOptions"), ...declared(server, "ServerOptions")];
    assert.ok(options.length > 20, options.join());
    assert.deepEqual(options.filter((option) => !new RegExp(`\\b${option}\\b`).test(guide)), []);
  });

  test("names every event of the server, of a socket and of the engine", () => {
    const events = ["connection", "new_namespace", "disconnecting", "disconnect", "error", "initial_headers", "headers", "connection_error"];
    assert.deepEqual(events.filter((event) => !guide.includes(`.on("${event}"`)), []);
  });
});

/** `io.to(` and `io.volatile` name a member directly; `io.in("red").fetchSockets()` names fetchSockets of io too */
function names(prefix, member) {
  const escaped = prefix.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`${escaped}(\\([^)]*\\))?(\\.\\w+(\\([^)]*\\))?)*\\.${member}\\b`).test(guide);
}

/** Names declared by an interface */
function declared(text, name) {
  const body = text.slice(text.search(new RegExp(`interface ${name}\\b`)));
  const lines = body.slice(0, body.search(/^}/m)).split("\n");
  return lines.map((line) => /^    (\w+)\??:/.exec(line)?.[1]).filter(Boolean);
}
