// All supported clients in one room at once: each receives the expected events, exactly and in order.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchChromium, openBarePage, withoutChromium } from "../lib/chromium.js";
import { BrowserMember, JsonMember, PlainMember, SocketIoMember, until } from "../lib/members.js";
import { startDemo } from "../lib/server.js";

const ROOM = "red";
const PATTERNS = ["everyone", "others", "room", "room-others"];
const MODES = ["polling", "websocket", "upgrade"];

let server;
let browser;
const members = [];
const outsiders = [];
/** Expected events of each member, in order */
const expected = new Map();

before(async () => {
  server = await startDemo();
  const opening = [
    ...[4, 3].flatMap((version) => MODES.map((mode) => new SocketIoMember(server.url, version, mode))),
    await PlainMember.open(server.url),
    await JsonMember.open(server.url),
  ];
  if (!withoutChromium) {
    browser = await launchChromium();
    const page = await openBarePage(browser, server.url);
    opening.push(...(await BrowserMember.openAll(page, ["polling", "websocket", "upgrade", "plain"])));
  }
  for (const member of opening) members.push(await member.connected());
  const strangers = [new SocketIoMember(server.url, 4, "websocket"), await PlainMember.open(server.url)];
  for (const stranger of strangers) {
    stranger.name += ", not in the room";
    outsiders.push(await stranger.connected());
  }
  for (const each of everyone()) expected.set(each, []);
});

after(async () => {
  await Promise.all(everyone().map((each) => each.close()));
  await browser?.close();
  await server.stop();
});

const everyone = () => [...members, ...outsiders];

test("greets every client with its own id, kind and transport", () => {
  assert.equal(new Set(everyone().map(({ id }) => id)).size, everyone().length);
  for (const { hello, mode, transport } of everyone()) {
    assert.equal(typeof hello.kind, "string");
    if (mode !== "upgrade") assert.equal(hello.transport, transport);
  }
});

test("a browser takes part", { skip: withoutChromium }, () => {
  assert.equal(members.filter((member) => member instanceof BrowserMember).length, 4);
});

test("join: welcomes the client and notifies the room", async () => {
  for (const [index, joiner] of members.entries()) {
    const answer = await joiner.request("join", ROOM);
    for (const member of members.slice(0, index)) expect(member, "joined", { room: ROOM, id: joiner.id });
    expect(joiner, "welcome", { room: ROOM, id: joiner.id, members: index + 1 });
    await arrived();
    if (!isPlain(joiner)) assert.notEqual(answer, undefined, `${joiner.name} got no ack`);
  }
  compare();
});

for (const pattern of PATTERNS) {
  test(`${pattern}: from each client in turn, complete and in order`, async () => {
    for (const sender of everyone()) {
      const text = `${pattern} from ${sender.name} – déjà てすと 👩‍🚀 "quoted" \\`;
      const receivers = receiversOf(pattern, sender);
      const room = pattern.startsWith("room") ? ROOM : undefined;
      for (const receiver of receivers) {
        expect(receiver, pattern, { from: sender.id, ...(room && { room }), text, via: sender.transport });
      }
      const receipt = await sender.cast(pattern, ROOM, text);
      if (receipt?.queued !== undefined) assert.equal(receipt.queued, receivers.length, "wrong number in the receipt");
      await arrived();
    }
    if (pattern === PATTERNS.at(-1)) console.log(table());
    compare();
  });
}

test("all at once: loses and duplicates nothing, keeps each sender's order", async () => {
  const COUNT = 30;
  const total = everyone().length * COUNT;
  const before = everyone().map(({ log }) => log.length);
  await Promise.all(
    everyone().map(async (sender) => {
      for (let number = 0; number < COUNT; number += 1) await sender.cast("everyone", ROOM, String(number));
    }),
  );
  await until(() => everyone().every(({ log }, index) => log.length >= before[index] + total), "not all arrived");
  const inOrder = Array.from({ length: COUNT }, (_, number) => String(number));
  for (const [index, receiver] of everyone().entries()) {
    const received = receiver.log.splice(before[index]);
    assert.equal(received.length, total, `${receiver.name} got ${received.length} of ${total}`);
    for (const sender of everyone()) {
      const texts = received.filter(([, { from }]) => from === sender.id).map(([, { text }]) => text);
      assert.deepEqual(texts, inOrder, `${receiver.name} got these from ${sender.name}`);
    }
  }
});

test("leave: notifies the client and the room, and ends membership", async () => {
  for (const [index, leaver] of members.entries()) {
    await leaver.request("leave", ROOM);
    for (const member of members.slice(index + 1)) expect(member, "left", { room: ROOM, id: leaver.id });
    expect(leaver, "bye", { room: ROOM, id: leaver.id });
    await arrived();
    const text = `after ${leaver.name} left`;
    for (const member of members.slice(index + 1)) {
      expect(member, "room", { from: outsiders[0].id, room: ROOM, text, via: outsiders[0].transport });
    }
    await outsiders[0].cast("room", ROOM, text);
    await arrived();
  }
  compare();
});

test("no client received unexpected messages", async () => {
  for (const each of everyone()) expect(each, "everyone", { from: outsiders[1].id, text: "the end", via: "websocket" });
  await outsiders[1].cast("everyone", ROOM, "the end");
  await arrived();
  await new Promise((resolve) => setTimeout(resolve, 200));
  compare();
});

function receiversOf(pattern, sender) {
  const addressed = pattern.startsWith("room") ? members : everyone();
  return pattern.endsWith("others") ? addressed.filter((member) => member !== sender) : addressed;
}

function expect(member, event, detail) {
  expected.get(member).push([event, detail]);
}

/** Waits until each member has its expected number of events; `compare` checks their content */
async function arrived() {
  for (const [member, wanted] of expected) {
    await until(
      () => member.log.length >= wanted.length,
      `${member.name} lacks ${JSON.stringify(wanted[member.log.length] ?? wanted.at(-1))}`,
    );
  }
}

function compare() {
  for (const [member, wanted] of expected) assert.deepEqual(member.log.map(plainEvent), wanted, member.name);
}

/** The event without absent fields, and with a count where the server lists the members */
function plainEvent([event, detail, ...rest]) {
  const fields = Object.entries(detail).filter(([, value]) => value !== null && value !== undefined);
  const plain = Object.fromEntries(fields);
  if (Array.isArray(plain.members)) plain.members = new Set(plain.members).size;
  return [event, plain, ...rest];
}

function isPlain(member) {
  return member instanceof PlainMember || member.mode === "plain";
}

/** Table of clients by patterns: received of expected broadcasts */
function table() {
  const rows = [...expected].map(([member, wanted]) => {
    const cells = PATTERNS.map((pattern) => {
      const count = (events) => events.filter(([event]) => event === pattern).length;
      return `${count(member.log)}/${count(wanted)}`;
    });
    return [member.name, member.transport, ...cells];
  });
  const lines = [["client", "transport", ...PATTERNS], ...rows];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()).join("\n");
}
