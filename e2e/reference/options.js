import { parseArgs } from "node:util";

/** Flags of `conformance_server`, from this process's command line */
export function conformanceOptions() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "0" },
      "ping-interval": { type: "string", default: "300" },
      "ping-timeout": { type: "string", default: "200" },
      "upgrade-timeout": { type: "string", default: "10000" },
      "connect-timeout": { type: "string", default: "1000" },
      "max-payload": { type: "string", default: "1000000" },
      cors: { type: "string" },
      cookie: { type: "string" },
    },
  });
  return {
    port: Number(values.port),
    pingInterval: Number(values["ping-interval"]),
    pingTimeout: Number(values["ping-timeout"]),
    upgradeTimeout: Number(values["upgrade-timeout"]),
    connectTimeout: Number(values["connect-timeout"]),
    maxPayload: Number(values["max-payload"]),
    cors: values.cors,
    cookie: values.cookie,
  };
}

/** The address of `roomcast serve --addr HOST:PORT`, as `{ host, port }` */
export function demoOptions() {
  const { values } = parseArgs({
    options: { addr: { type: "string", default: "127.0.0.1:0" } },
    allowPositionals: true,
  });
  const colon = values.addr.lastIndexOf(":");
  return { host: values.addr.slice(0, colon), port: Number(values.addr.slice(colon + 1)) };
}

/** Port of `--port N`; a free port if it is 0 or missing */
export function portOption() {
  const { values } = parseArgs({ options: { port: { type: "string", default: "0" } } });
  return Number(values.port);
}
