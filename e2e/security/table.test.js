// Checks that README.md lists the tests of this folder.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

test("README.md lists exactly the tests of this folder", () => {
  const files = readdirSync(new URL(".", import.meta.url)).filter((name) => name.endsWith(".test.js"));
  const written = files.flatMap((file) => {
    const beginnings = [...read(file).matchAll(/^ *(?:attack|test)\(\s*(.)/gm)];
    const names = [...read(file).matchAll(/^ *(?:attack|test)\(\s*"([^"]+)"/gm)];
    assert.equal(names.length, beginnings.length, `${file}: test names must be string literals`);
    return names.map(([, name]) => `${file} ${name}`);
  });
  assert.equal(new Set(written).size, written.length, "duplicate test names");
  const rows = read("README.md")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---") && !line.endsWith("| Test |"));
  const named = new Set();
  for (const row of rows) {
    const [attack, held] = row.slice(2, -2).split(" | ");
    assert.ok(attack && held?.trim(), `${row}: no test and no reason`);
    for (const part of held.split("<br>")) {
      const [, file, name] = /`([\w.]+\.test\.js)` (.+)$/.exec(part) ?? [];
      if (file) named.add(`${file} ${name}`);
    }
  }
  assert.deepEqual([...named].sort(), written.sort());
});
