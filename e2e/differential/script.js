// A script may have `flags` for the server, and be `alone` on it if it stops the server.

/** The three carriers of a session */
export const EVERY_CARRIER = ["polling", "websocket", "upgraded"];

/** A script played over each carrier */
export function each(name, play, options = {}) {
  return { name, play, carriers: EVERY_CARRIER, ...options };
}

/** A script played once, over WebSocket unless it chooses another carrier */
export function once(name, play, options = {}) {
  return { name, play, carriers: ["websocket"], ...options };
}
