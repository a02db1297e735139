/**
 * The demo page: clients on different transports in the same rooms.
 *
 * Selectors for automated tests:
 * - `#server[data-server]`: `connecting`, `up`, `partial` or `down`; `#server-banner` is shown while it is `down`
 * - `.panel[data-client="a"]` (`a` to `h`, in the order of opening), with
 *   `data-kind`: `polling`, `websocket`, `upgraded`, `plain`, `roomcast.json`, `socket.io-client`;
 *   `data-state`: `connecting`, `connected`, `waiting`, `disconnected`; `data-transport`: `polling`, `websocket` or "";
 *   `data-id`: the socket id or ""; `data-rooms`: joined rooms, sorted, with spaces between
 * - in a panel: `[data-action=everyone|others|room|room-others]` send; `[data-action=toggle]` disconnects, connects or
 *   retries; `[data-action=remove]`; `[data-action=room-toggle][data-room=red]` joins or leaves, `aria-pressed` shows
 *   whether joined; `[name=text]` the message, `[name=target]` the room to send to, `[name=room]` a free name (Enter)
 * - `.log > li[data-event][data-direction=in|out|note|wire]`, for broadcasts also `data-tag`, `-from`, `-latency`
 * - `#broadcast[data-tag][data-event][data-from][data-addressed][data-received][data-queued][data-dropped]`: the last
 *   broadcast (clients of this page addressed and reached, then the server's own count), and
 *   `#broadcast-lanes > li[data-client][data-lane=reached|awaited|aside|idle][data-latency]`
 * - `[data-action=add][data-kind]`, `[data-action=tour]`, `[data-action=wire]`, `[data-action=retry-all]`
 */

import { connect } from "./client.js";

const KINDS = {
  polling: { title: "Long-polling", blurb: "Socket.IO over HTTP" },
  websocket: { title: "WebSocket", blurb: "Socket.IO over WebSocket" },
  upgraded: { title: "Upgraded", blurb: "Polling, then WebSocket" },
  plain: { title: "Plain WebSocket", blurb: 'new WebSocket("/ws")' },
  "roomcast.json": { title: "roomcast.json", blurb: "WebSocket with acks" },
  "socket.io-client": { title: "socket.io-client", blurb: "The official client" },
};
const AT_LOAD = [
  ["polling", ["red"]],
  ["websocket", ["red", "blue"]],
  ["upgraded", ["blue"]],
  ["plain", ["red"]],
];
const PATTERNS = { everyone: "everyone", others: "everyone else", room: "a room", "room-others": "others in a room" };
const WIRE_MARKS = { in: "◂ ", out: "▸ " };
const MAX_CLIENTS = 8;
const MAX_POLLING = 4; // browsers open six HTTP connections to one server; POSTs need some of them
const MAX_ENTRIES = 200;

const byId = (id) => document.getElementById(id);
const panels = [];
const names = new Map(); // socket id to the letter of its panel, removed panels included
const drawings = [];
const rooms = new Set(["red", "blue"]);
let official; // opens the official client, if the server has its files

/** A client with its view */
class Panel {
  constructor(kind, wanted) {
    this.kind = kind;
    this.letter = "abcdefgh".split("").find((letter) => !panels.some((panel) => panel.letter === letter));
    this.name = this.letter.toUpperCase();
    this.wanted = new Set(wanted); // rooms to join, also after a reconnect
    this.rooms = new Set(); // rooms the server has confirmed
    this.id = null;
    this.retryAt = 0;
    this.element = byId("panel-template").content.firstElementChild.cloneNode(true);
    this.#label();
    const open = kind === "socket.io-client" ? official : (options) => connect(kind, options);
    this.client = open({
      onState: (state, detail) => this.#changed(state, detail),
      onTransport: (name) => this.#carriedBy(name),
      onEvent: (event, args) => this.#received(event, args),
      onWire: (direction, data) => showsWire() && this.log("wire", direction, [WIRE_MARKS[direction], preview(data)]),
    });
  }

  get connected() {
    return this.id !== null;
  }

  /** Sends to one of the four targets and tracks the message to its recipients */
  async cast(pattern, text, room) {
    const cast = Cast.begin(this, pattern, text, room);
    this.log("out", pattern, ["you → ", target(pattern, room)], text, { tag: cast.tag });
    try {
      const receipt = await this.#command(pattern, room ? [room, text] : [text], cast.tag);
      if (receipt) cast.answered(receipt);
    } catch (error) {
      this.log("note", "error", [`not sent: ${error.message}`]);
    }
  }

  /** Sends the input unchanged; for slash commands in the plain client */
  type(text) {
    this.log("out", "message", ["you typed"], text);
    this.client.emit("message", text);
  }

  async setRoom(room, joined) {
    if (joined) this.wanted.add(room);
    else this.wanted.delete(room);
    rooms.add(room);
    panels.forEach((panel) => panel.showRooms());
    if (!this.connected) return;
    try {
      await this.#command(joined ? "join" : "leave", [room]);
    } catch (error) {
      this.log("note", "error", [`${room}: ${error.message}`]);
    }
  }

  toggle() {
    if (this.client.state === "disconnected" || this.client.state === "waiting") this.client.connect();
    else this.client.disconnect();
  }

  // Plain mode has no event names and no acks; the demo reads slash commands, with the tag as the last word.
  async #command(event, args, tag) {
    if (this.kind === "plain") return this.client.emit("message", slashCommand(event, args, tag));
    const [answer] = await this.client.request(event, ...args, ...(tag ? [tag] : []));
    return answer;
  }

  #received(event, [detail = {}]) {
    const now = performance.now();
    if (event in PATTERNS) return this.#gotCast(now, event, detail);
    switch (event) {
      case "hello":
        return this.#greeted(detail);
      case "welcome":
        this.rooms.add(detail.room);
        this.showRooms();
        return this.log("note", event, ["joined ", chip(detail.room), ` · ${membersOf(detail)}`]);
      case "bye":
        this.rooms.delete(detail.room);
        this.showRooms();
        return this.log("note", event, ["left ", chip(detail.room)]);
      case "joined":
      case "left":
        return this.log("note", event, [nameOf(detail.id), ` ${event} `, chip(detail.room)]);
      default:
        return this.log("note", event, [`${event}: ${preview(detail)}`]);
    }
  }

  #gotCast(now, event, { from, room, text, tag, via }) {
    const latency = Cast.received(this, now, event, { from, room, text, tag });
    const road = `${via ?? "?"} → ${this.element.dataset.transport}`;
    const head = [letter(from), " → ", target(event, room)];
    this.log("in", event, head, String(text), { tag, from, latency, road });
    this.element.dataset.lit = this.element.dataset.lit === "1" ? "2" : "1"; // two equal animations, so each restarts
  }

  #carriedBy(transport) {
    const before = this.element.dataset.transport;
    const field = this.field("transport");
    this.element.dataset.transport = field.dataset.transport = field.textContent = transport;
    if (before && transport && before !== transport) this.log("note", "upgrade", ["upgraded to ", badge(transport)]);
  }

  #greeted({ id, transport }) {
    names.set(id, this.name);
    this.#identify(id);
    this.element.dataset.state = "connected";
    this.log("note", "hello", ["connected by ", badge(transport)]);
    for (const room of this.wanted) this.setRoom(room, true);
    this.showState();
    showServer();
  }

  #identify(id) {
    this.id = id;
    this.element.dataset.id = id ?? "";
    this.field("id").textContent = this.field("id").title = id ?? "–";
  }

  #changed(state, { reason, delay, attempt } = {}) {
    if (state === "connected") return; // the server's hello follows, with the id
    this.element.dataset.state = state;
    this.rooms.clear();
    this.#identify(null);
    this.#carriedBy("");
    if (state === "waiting") this.retryAt = performance.now() + delay;
    if (state === "waiting" && attempt === 1) this.log("note", "lost", [`no connection: ${reason}`]);
    if (state === "disconnected") this.log("note", "disconnected", [reason]);
    this.showRooms();
    this.showState();
    showServer();
  }

  showState() {
    const { state } = this.element.dataset;
    const seconds = Math.max(0, Math.ceil((this.retryAt - performance.now()) / 1000));
    const text = { connecting: "connecting…", waiting: `retrying in ${seconds} s` }[state] ?? state;
    setText(this.field("state"), text);
    const action = { waiting: "Retry now", disconnected: "Connect" }[state] ?? "Disconnect";
    setText(this.find("[data-action=toggle]"), action);
    for (const button of this.element.querySelectorAll(".sends button")) button.disabled = !this.connected;
  }

  showRooms() {
    const select = this.find("select");
    for (const room of rooms) {
      let button = this.find(`.chip[data-room="${CSS.escape(room)}"]`);
      if (!button) {
        button = make("button", { type: "button", className: "chip", textContent: room });
        Object.assign(button.dataset, { action: "room-toggle", room, hue: hue(room) });
        this.field("rooms").append(button);
        select.append(new Option(room, room, false, this.wanted.has(room) && !this.wanted.has(select.value)));
      }
      const joined = this.connected ? this.rooms.has(room) : this.wanted.has(room);
      button.setAttribute("aria-pressed", joined);
      button.title = `${joined ? "Leave" : "Join"} ${room}`;
    }
    this.element.dataset.rooms = [...this.rooms].sort().join(" ");
  }

  log(direction, event, head, text, { tag, from, latency, road } = {}) {
    const item = make("li");
    Object.assign(item.dataset, { direction, event, ...(tag && { tag }), ...(from && { from }) });
    if (latency !== undefined) item.dataset.latency = latency.toFixed(3);
    const line = make("p", { className: "line" });
    line.append(make("time", { textContent: clock(new Date()) }), mark("who", ""));
    line.lastChild.append(...head);
    item.append(line);
    if (text !== undefined) item.append(make("p", { className: "text", textContent: text }));
    if (road) item.append(make("p", { className: "road muted", textContent: road }));
    if (latency !== undefined) item.lastChild.append(mark("ms", milliseconds(latency)));
    later(() => {
      const log = this.find(".log");
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      log.append(item);
      if (log.children.length > MAX_ENTRIES) log.firstChild.remove();
      if (atEnd) log.scrollTop = log.scrollHeight;
    });
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  field(name) {
    return this.find(`[data-field="${name}"]`);
  }

  #label() {
    const { title, blurb } = KINDS[this.kind];
    Object.assign(this.element.dataset, { client: this.letter, kind: this.kind, transport: "", id: "", rooms: "" });
    for (const [name, text] of Object.entries({ letter: this.name, title, blurb })) this.field(name).textContent = text;
    this.field("title").id = `title-${this.letter}`;
    this.element.setAttribute("aria-labelledby", `title-${this.letter}`);
    this.find("[name=text]").value = `hello from ${this.name}`;
    if (this.kind === "plain") this.find("[name=text]").placeholder = "Message, or /room red hi";
    for (const labelled of this.element.querySelectorAll("[data-label]"))
      labelled.setAttribute("aria-label", `${labelled.dataset.label} ${this.name}`);
  }
}

/** A broadcast, tracked from the click to each recipient on this page */
class Cast {
  static #all = new Map();
  static #count = 0;
  static #page = Math.random().toString(36).slice(2, 8);

  static begin(sender, pattern, text, room) {
    const tag = `${Cast.#page}-${++Cast.#count}`;
    const addressed = panels.filter(
      (panel) =>
        panel.connected &&
        (panel !== sender || !pattern.endsWith("others")) &&
        (!pattern.startsWith("room") || panel.rooms.has(room)),
    );
    return new Cast({ tag, from: sender.id, event: pattern, text, room, addressed, start: performance.now() });
  }

  /** Records a receipt and returns its latency, or undefined for a click on another page */
  static received(panel, now, event, { from, room, text, tag }) {
    const key = tag ?? `${from} ${event} ${text}`;
    const cast = Cast.#all.get(key) ?? new Cast({ tag: key, from, event, text, room, addressed: [], start: null });
    cast.receipts.set(panel, cast.start === null ? undefined : now - cast.start);
    cast.show();
    return cast.receipts.get(panel);
  }

  constructor(properties) {
    Object.assign(this, properties, { receipts: new Map(), receipt: null, witnesses: new Set(panels) });
    Cast.#all.set(this.tag, this);
    if (Cast.#all.size > 50) Cast.#all.delete(Cast.#all.keys().next().value);
    Cast.last = this;
    this.show();
    setTimeout(() => this.#announce(), 700);
  }

  answered(receipt) {
    this.receipt = receipt;
    this.show();
  }

  show() {
    if (Cast.last === this) later(() => Cast.last === this && this.#draw());
  }

  #draw() {
    const { dataset } = byId("broadcast");
    const { queued = "", dropped = "" } = this.receipt ?? {};
    Object.assign(dataset, { tag: this.tag, event: this.event, from: this.from, queued, dropped });
    Object.assign(dataset, { addressed: this.#expected, received: this.receipts.size });
    const quote = make("q", { textContent: this.text });
    byId("broadcast-what").replaceChildren(letter(this.from), " → ", target(this.event, this.room), " ", quote);
    byId("broadcast-summary").textContent = this.#summary();
    drawLanes();
  }

  #summary() {
    const latencies = this.latencies;
    const parts = [`received by ${this.receipts.size} of ${this.#expected}`];
    if (latencies.length > 0) parts.push(`slowest ${milliseconds(Math.max(...latencies))}`);
    if (this.receipt) parts.push(`server queued ${this.receipt.queued}, dropped ${this.receipt.dropped}`);
    return parts.join(" · ");
  }

  #announce() {
    if (Cast.last !== this) return;
    byId("announcer").textContent = `${nameOf(this.from)}, to ${PATTERNS[this.event]}: ${this.#summary()}`;
  }

  /** State of this broadcast at a client: `reached`, `awaited`, `aside`, or `idle` if the client came later */
  at(panel) {
    if (this.receipts.has(panel)) return "reached";
    if (this.addressed.includes(panel)) return "awaited";
    return this.witnesses.has(panel) ? "aside" : "idle";
  }

  get #expected() {
    return new Set([...this.addressed, ...this.receipts.keys()]).size;
  }

  get latencies() {
    return [...this.receipts.values()].filter((latency) => latency !== undefined);
  }
}

/** The strip above the clients: a lane per client, with the latency of the last broadcast */
function drawLanes(cast = Cast.last) {
  const slowest = Math.max(...(cast?.latencies ?? []), 1);
  const lanes = panels.map((panel) => {
    const latency = cast?.receipts.get(panel);
    const lane = cast?.at(panel) ?? "idle";
    const aside = cast?.start === null ? "–" : "not addressed"; // recipients of another page's broadcast are unknown
    const words = { reached: "received", awaited: "on its way", aside, idle: "–" }[lane];
    const item = make("li");
    Object.assign(item.dataset, { client: panel.letter, lane, ...(latency && { latency: latency.toFixed(3) }) });
    item.append(mark("letter", panel.name), mark("bar", ""), mark("ms", latency ? milliseconds(latency) : words));
    const share = lane === "reached" ? Math.max(0.04, (latency ?? slowest) / slowest) : 0;
    item.children[1].style.setProperty("--share", share);
    return item;
  });
  byId("broadcast-lanes").replaceChildren(...lanes);
}

function addPanel(kind, wanted) {
  const panel = new Panel(kind, wanted);
  panels.push(panel);
  panels.sort((one, other) => one.letter.localeCompare(other.letter));
  byId("panels").insertBefore(panel.element, byId("panels").children[panels.indexOf(panel)] ?? null);
  panel.showRooms();
  showServer();
  drawLanes();
  return panel;
}

function removePanel(panel) {
  const index = panels.indexOf(panel);
  panels.splice(index, 1);
  panel.client.disconnect();
  panel.element.remove();
  (panels[index]?.element ?? byId("clients")).focus();
  showServer();
  drawLanes();
}

async function tour(button) {
  button.disabled = true;
  const steps = [
    ["everyone", "Hello, everyone"],
    ["others", "Everyone but me"],
    ["room", "Only members of red", "red"],
    ["room-others", "The others in red", "red"],
    ["room", "Now the blue room", "blue"],
  ];
  for (const [index, step] of steps.entries()) {
    const ready = panels.filter((panel) => panel.connected);
    if (ready.length > 0) ready[index % ready.length].cast(...step);
    await new Promise((resolve) => setTimeout(resolve, 1800));
  }
  button.disabled = false;
}

function showServer() {
  const expected = panels.filter((panel) => panel.client?.state !== "disconnected");
  const connected = panels.filter((panel) => panel.connected).length;
  const failing = expected.some((panel) => panel.retryAt > 0);
  const all = connected === expected.length && connected > 0;
  const state = all ? "up" : connected > 0 ? "partial" : failing ? "down" : "connecting";
  if (all) for (const panel of panels) panel.retryAt = 0;
  byId("server").dataset.server = state;
  const texts = { connecting: expected.length ? "connecting…" : "no client connected", down: "server not answering" };
  setText(byId("server-text"), texts[state] ?? `${connected} of ${panels.length} clients connected`);
  byId("server-banner").hidden = state !== "down";
  const pollers = panels.filter((panel) => panel.kind === "polling").length;
  for (const button of document.querySelectorAll("[data-action=add]"))
    button.disabled = panels.length >= MAX_CLIENTS || (button.dataset.kind === "polling" && pollers >= MAX_POLLING);
  setText(byId("add-note"), panels.length >= MAX_CLIENTS ? `${MAX_CLIENTS} at most` : "");
}

/** Shows what the server tells about itself, and the official client if the server has its files */
async function showAbout() {
  const about = await (await fetch("/about.json")).json();
  setText(byId("version"), about.version);
  byId("version").title = `commit ${about.commit}`;
  const { metrics_port: port, docs, source } = about;
  const metrics = port && Object.assign(new URL("/metrics", location), { protocol: "http:", port }).href;
  for (const [name, href] of Object.entries({ docs, source, metrics })) {
    if (href) Object.assign(document.querySelector(`[data-link=${name}]`), { href, hidden: false });
  }
  if (!about.client) return;
  ({ connectOfficial: official } = await import("./official.js"));
  document.querySelector('[data-action=add][data-kind="socket.io-client"]').hidden = false;
  addPanel("socket.io-client", ["red"]);
}

function send(panel, pattern) {
  const text = panel.find("[name=text]").value.trim() || `hello from ${panel.name}`;
  if (!panel.connected) return;
  if (panel.kind === "plain" && text.startsWith("/")) return panel.type(text);
  panel.cast(pattern, text, pattern.startsWith("room") ? panel.find("select").value : undefined);
}

function onClick({ target: clicked }) {
  const button = clicked.closest("[data-action]");
  const panel = panels.find(({ element }) => element.contains(button));
  const actions = {
    toggle: () => panel.toggle(),
    remove: () => removePanel(panel),
    "room-toggle": () => panel.setRoom(button.dataset.room, button.getAttribute("aria-pressed") !== "true"),
    add: () => addPanel(button.dataset.kind, ["red"]).element.focus(),
    tour: () => tour(button),
    wire: () => (document.body.dataset.wire = button.checked ? "on" : "off"),
    "retry-all": () => panels.forEach(({ client }) => client.state === "waiting" && client.connect()),
    copy: () => copy(button),
  };
  const action = button?.dataset.action;
  if (action in PATTERNS && button.type !== "submit") send(panel, action);
  else actions[action]?.();
}

function onSubmit(event) {
  event.preventDefault();
  const panel = panels.find(({ element }) => element.contains(event.target));
  if (event.target.dataset.form === "send") return send(panel, "everyone");
  const input = event.target.elements.room;
  const room = input.value.trim().replace(/[\s#/]+/g, "-"); // slash commands take a room as one word
  if (room) panel.setRoom(room, true);
  input.value = "";
}

async function copy(button) {
  const code = button.closest("figure").querySelector("code");
  getSelection().selectAllChildren(code); // sufficient if the browser blocks the clipboard
  await navigator.clipboard?.writeText(code.textContent);
  setText(button, navigator.clipboard ? "Copied" : "Selected");
  setTimeout(() => setText(button, "Copy"), 1500);
}

function target(event, room) {
  if (!room) return event === "everyone" ? "everyone" : "everyone else";
  const words = make("span", { textContent: event === "room" ? "" : "others in " });
  words.append(chip(room));
  return words;
}

function mark(className, textContent, data = {}) {
  const element = make("span", { className, textContent });
  Object.assign(element.dataset, data);
  return element;
}

function slashCommand(event, args, tag) {
  return [event !== "everyone" && `/${event}`, ...args, tag && `#${tag}`].filter(Boolean).join(" ");
}

function hue(room) {
  if (room === "red" || room === "blue") return room;
  return ["violet", "green", "amber"][[...room].reduce((sum, char) => sum + char.codePointAt(0), 0) % 3];
}

function preview(data) {
  const text = typeof data === "string" ? data : data.byteLength ? `${data.byteLength} bytes` : JSON.stringify(data);
  return text.length > 240 ? `${text.slice(0, 240)}…` : text;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);
const letter = (id) => mark(names.has(id) ? "letter" : "stranger", nameOf(id));
const badge = (transport) => mark("badge", transport, { transport });
const chip = (room) => mark("room-name", room, { hue: hue(room) });
const nameOf = (id) => names.get(id) ?? `${String(id).slice(0, 6)}…`;
const membersOf = ({ members }) => `members: ${members?.length ?? members}`;
const milliseconds = (value) => `${value.toFixed(value < 100 ? 1 : 0)} ms`;
const clock = (date) => `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
const showsWire = () => document.body.dataset.wire === "on";

// Batches drawing in a later task, so that it does not delay the messages of other clients.
function later(draw) {
  if (drawings.push(draw) === 1) setTimeout(() => drawings.splice(0).forEach((each) => each()));
}

for (const place of document.querySelectorAll("[data-origin]"))
  place.textContent = place.dataset.origin === "ws" ? location.origin.replace(/^http/, "ws") : location.origin;
document.addEventListener("click", onClick);
document.addEventListener("submit", onSubmit);
for (const [kind, wanted] of AT_LOAD) addPanel(kind, wanted);
showAbout();
setInterval(() => panels.forEach((panel) => panel.client.state === "waiting" && panel.showState()), 250);
