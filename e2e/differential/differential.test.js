// Plays every script on Node's server and on Roomcast, and compares received messages and server events.
//
// ONLY=text plays the scripts with that text in their name; SHOW=1 prints both records.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { dropIdle } from "../lib/http.js";
import { DIFFERENCES } from "./differences.js";
import { lineDifference } from "./lines.js";
import { SUBJECTS } from "./scripts/index.js";
import { Houses, Stage } from "./stage.js";

const { ONLY, SHOW } = process.env;
const totals = [];
const met = new Set();

/** Subjects that run in parallel, each on separate servers */
const AT_ONCE = 4;

describe("scripts", { concurrency: AT_ONCE }, () => {
  for (const { subject, flags, scripts } of SUBJECTS) {
    const plays = scripts.flatMap((script) => script.carriers.map((carrier) => ({ script, carrier })));
    const wanted = plays.filter(({ script, carrier }) => !ONLY || nameOf(script, carrier).includes(ONLY));
    if (wanted.length === 0) continue;
    const scriptsWanted = new Set(wanted.map(({ script }) => script)).size;
    const total = { subject, scripts: scriptsWanted, plays: 0, equal: 0, different: 0 };
    totals.push(total);
    describe(subject, { concurrency: 1 }, () => {
      const houses = new Houses();
      after(() => houses.stop());
      for (const { script, carrier } of wanted) {
        test(nameOf(script, carrier), async () => {
          total.plays += 1;
          const both = ["node", "roomcast"].map(async (target) => {
            const own = script.alone ? nameOf(script, carrier) : "";
            const house = await houses.open(target, { ...flags, ...script.flags }, own);
            return play(house, script, carrier, String(total.plays));
          });
          const [node, roomcast] = await Promise.all(both);
          if (SHOW) console.log(`${nameOf(script, carrier)}\n  ${node.join("\n  ")}`);
          assert.ok(node.length > 0, "the script received nothing");
          total[judge(script, carrier, lineDifference(node, roomcast))] += 1;
        });
      }
    });
  }
});

describe("the list of differences", () => {
  test("names existing scripts, with reasons, and each difference occurs", { skip: Boolean(ONLY) }, () => {
    for (const difference of DIFFERENCES) {
      assert.ok(difference.why.length > 40, `${difference.name} has no reason`);
      for (const at of difference.at) {
        assert.ok([...met].some((known) => known === at), `${difference.name}: "${at.script}" did not show the difference`);
        assert.notDeepEqual(at.node, at.roomcast, `${difference.name}: "${at.script}" has equal lines`);
      }
    }
  });
});

after(() => {
  dropIdle();
  printTable();
});

function nameOf(script, carrier) {
  return script.carriers.length > 1 ? `${script.name} (${carrier})` : script.name;
}

/** Returns `equal`, or `different` for expected differences; fails for other differences */
function judge(script, carrier, found) {
  const known = knownDifference(script, carrier);
  if (!known) {
    assert.ok(found.node.length + found.roomcast.length === 0, told(found));
    return "equal";
  }
  met.add(known);
  assert.deepEqual(found, { node: known.node, roomcast: known.roomcast }, told(found));
  return "different";
}

async function play(where, script, carrier, key) {
  const stage = new Stage(where, key, carrier);
  try {
    await script.play(stage);
    return stage.record();
  } catch (error) {
    throw new Error(`on ${where.target}: ${error.stack}\nso far:\n${stage.record().join("\n")}`);
  } finally {
    await stage.clear();
  }
}

function knownDifference(script, carrier) {
  for (const difference of DIFFERENCES) {
    for (const at of difference.at) {
      if (at.script === script.name && (!at.carriers || at.carriers.includes(carrier))) return at;
    }
  }
  return undefined;
}

function told({ node, roomcast }) {
  const lines = [...node.map((line) => `- ${line}`), ...roomcast.map((line) => `+ ${line}`)];
  return `heard on Node (-) and on Roomcast (+):\n${lines.join("\n")}`;
}

function printTable() {
  const figures = ["scripts", "plays", "equal", "different"];
  const sum = (name) => totals.reduce((total, row) => total + row[name], 0);
  const all = Object.fromEntries(figures.map((name) => [name, sum(name)]));
  const width = Math.max(...totals.map(({ subject }) => subject.length));
  const line = (subject, figures) => [subject.padEnd(width), ...figures.map((cell) => String(cell).padStart(7))].join("  ");
  console.log(line("subject", ["scripts", "plays", "equal", "intended differences"]));
  for (const row of [...totals, { subject: "all", ...all }]) console.log(line(row.subject, figures.map((name) => row[name])));
}
