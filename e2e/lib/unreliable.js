// A TCP proxy whose network drops packets: connections stay open, and nothing arrives.
import { createServer, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Starts a proxy to a port of this machine, on a free port.
 *
 * `drop(direction)` forwards nothing `"there"` (to the server), `"back"` or in `"both"` directions, on new connections
 * neither; the senders' bytes wait, as TCP repeats them. `resume()` forwards them, and `cut()` resets all connections
 * instead. `delay` is the time in milliseconds that bytes take in each direction.
 */
export async function startUnreliable(target) {
  const pairs = new Set();
  const dropped = { there: false, back: false };
  const proxy = { delay: 0 };

  const forward = (from, to, direction) => {
    let last = Promise.resolve();
    from.on("data", (bytes) => {
      const due = Date.now() + proxy.delay;
      if (proxy.delay === 0) return to.write(bytes);
      last = last.then(() => sleep(due - Date.now())).then(() => to.destroyed || to.write(bytes));
    });
    from.on("end", () => last.then(() => to.end()));
    if (dropped[direction]) from.pause();
  };

  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    const pair = { client, upstream };
    pairs.add(pair);
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      socket.on("error", () => close(pair));
      socket.on("close", () => close(pair));
    }
    forward(client, upstream, "there");
    forward(upstream, client, "back");
  });

  const close = (pair) => {
    if (!pairs.delete(pair)) return;
    pair.client.destroy();
    pair.upstream.destroy();
  };

  proxy.drop = (direction) => {
    for (const name of direction === "both" ? ["there", "back"] : [direction]) dropped[name] = true;
    for (const { client, upstream } of pairs) {
      if (dropped.there) client.pause();
      if (dropped.back) upstream.pause();
    }
  };
  proxy.resume = () => {
    dropped.there = dropped.back = false;
    for (const { client, upstream } of pairs) {
      client.resume();
      upstream.resume();
    }
  };
  proxy.cut = () => {
    for (const { client, upstream } of pairs) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
    proxy.resume();
  };
  proxy.stop = () => {
    [...pairs].forEach(close);
    return new Promise((resolve) => server.close(resolve));
  };
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.port = server.address().port;
  return proxy;
}
