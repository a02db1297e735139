// A script may have its own `flags` for the server, and be `alone` on it if it ends it.

/** The three ways a session may run */
export const EVERY_CARRIER = ["polling", "websocket", "upgraded"];

/** A script that is played over each of the carriers, in a line */
export function each(name, play, options = {}) {
  return { name, play, carriers: EVERY_CARRIER, ...options };
}

/** A script that is played once, over WebSocket where it does not say otherwise */
export function once(name, play, options = {}) {
  return { name, play, carriers: ["websocket"], ...options };
}
