// Independence of the number of threads: plays the scripts of clients that poll, or begin by polling, again on a
// Roomcast server with four threads. The reference has one.
import * as acks from "./acks.js";
import * as binary from "./binary.js";
import * as closing from "./closing.js";
import * as events from "./events.js";
import * as handshake from "./handshake.js";
import * as namespaces from "./namespaces.js";
import * as polling from "./polling.js";
import * as rooms from "./rooms.js";

export const subject = "four threads";
export const flags = { threads: 4 };

const subjects = [handshake, polling, namespaces, events, binary, acks, rooms, closing];

/** Excludes scripts that stop their server or need a separate one */
const shares = (script) => !script.alone && !script.flags;

export const scripts = subjects
  .flatMap(({ flags = {}, scripts }) => (Object.keys(flags).length === 0 ? scripts : []))
  .filter(shares)
  .map((script) => ({ ...script, carriers: script.carriers.filter((carrier) => carrier !== "websocket") }))
  .filter(({ carriers }) => carriers.length > 0);
