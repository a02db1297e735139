import { once } from "../script.js";

export const subject = "compression of polls";
export const flags = { "compress-from": 300 };

const accept = (coding) => ({ headers: { "accept-encoding": coding } });
const text = (letters) => `42["echo","${"x".repeat(letters)}"]`;
const polls = (name, play, options) => once(name, play, { carriers: ["polling"], ...options });

export const scripts = [
  ...["gzip", "deflate", "gzip, deflate, br", "deflate, gzip", "br", "identity", "*", "", "GZIP", "gzip;q=0",
    "gzip;q=0.5, deflate", "deflate;q=0.2, gzip;q=0.1", "x-gzip", "*;q=0", "gzip;q=0, *"].map((coding) =>
    polls(`a long answer for a client that accepts ${JSON.stringify(coding)}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.put(text(1000));
      await peer.fetch(accept(coding));
    }),
  ),
  polls("a long response for a client without Accept-Encoding", async (stage) => {
    const peer = await stage.join("a");
    await peer.put(text(1000));
    await peer.fetch();
  }),
  // The packet adds thirteen characters to the text.
  ...[286, 287, 288].map((letters) =>
    polls(`an answer of ${letters + 13} bytes`, async (stage) => {
      const peer = await stage.join("a");
      await peer.put(text(letters));
      await peer.fetch(accept("gzip"));
    }),
  ),
  polls("characters count as bytes", async (stage) => {
    const peer = await stage.join("a");
    await peer.put(`42["echo","${"€".repeat(100)}"]`);
    await peer.fetch(accept("gzip"));
  }),
  polls("several packets count together", async (stage) => {
    const peer = await stage.join("a");
    await peer.put(text(140), text(140));
    await peer.fetch(accept("gzip"));
  }),
  polls("an event with compression disabled", async (stage) => {
    const peer = await stage.join("a");
    await peer.put(`42["do",{"do":"emit","by":[{"compress":false}]},"news","${"x".repeat(1000)}"]`);
    await peer.fetch(accept("gzip"));
  }),
  polls("a handshake and the response to a POST are too short", async (stage) => {
    await stage.http("b", "?EIO=4&transport=polling", accept("gzip"));
    const peer = await stage.join("a");
    await peer.push(text(1000), accept("gzip"));
    await peer.sync();
  }),
];
