import * as acks from "./acks.js";
import * as binary from "./binary.js";
import * as broadcasts from "./broadcasts.js";
import * as closing from "./closing.js";
import * as compression from "./compression.js";
import * as dynamic from "./dynamic.js";
import * as events from "./events.js";
import * as files from "./files.js";
import * as handshake from "./handshake.js";
import * as headers from "./headers.js";
import * as heartbeat from "./heartbeat.js";
import * as invalid from "./invalid.js";
import * as limits from "./limits.js";
import * as listening from "./listening.js";
import * as namespaces from "./namespaces.js";
import * as outside from "./outside.js";
import * as packed from "./packed.js";
import * as parents from "./parents.js";
import * as polling from "./polling.js";
import * as recovery from "./recovery.js";
import * as refusals from "./refusals.js";
import * as rooms from "./rooms.js";
import * as servers from "./servers.js";
import * as threads from "./threads.js";
import * as transports from "./transports.js";
import * as upgrade from "./upgrade.js";
import * as websocket from "./websocket.js";

/** All subjects: a table of scripts each, on a server with the subject's flags */
export const SUBJECTS = [
  handshake,
  polling,
  websocket,
  upgrade,
  heartbeat,
  headers,
  limits,
  namespaces,
  dynamic,
  events,
  binary,
  acks,
  listening,
  rooms,
  broadcasts,
  outside,
  closing,
  recovery,
  transports,
  compression,
  files,
  refusals,
  parents,
  servers,
  packed,
  invalid,
  threads,
];
