// Compression with Chromium, which offers permessage-deflate by default.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchChromium, openBarePage, withoutChromium } from "../lib/chromium.js";
import { CALM, startConformance, startDemo } from "../lib/server.js";

describe("WebSocket compression in the browser", { skip: withoutChromium }, () => {
  let browser;
  before(async () => {
    browser = await launchChromium();
  });
  after(() => browser.close());

  for (const [what, start, path] of [
    ["with contexts", () => startConformance({ ...CALM, compression: true }), "/echo"],
    ["without contexts", () => startDemo(0, { compression: true }), "/ws"],
    ["without compression", () => startConformance(CALM), "/echo"],
  ]) {
    test(`exchanges large messages ${what}`, async () => {
      const server = await start();
      after(() => server.stop());
      const page = await openBarePage(browser, server.url);
      const { extensions, heard } = await page.evaluate(
        ([url, count]) =>
          new Promise((resolve, reject) => {
            const socket = new WebSocket(url);
            const heard = [];
            const sent = Array.from({ length: count }, (_, at) => `${at} déjà vu 👩‍🚀 `.repeat(50 + at * 50));
            socket.onopen = () => sent.forEach((text) => socket.send(text));
            socket.onclose = ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`));
            socket.onmessage = ({ data }) => {
              // The demo sends `hello` first, and names the sender.
              const text = data.startsWith("[") ? JSON.parse(data)[1].text : data;
              if (text !== undefined) heard.push(text === sent[heard.length]);
              if (heard.length === count) resolve({ extensions: socket.extensions, heard });
            };
          }),
        [`${server.url.replace("http", "ws")}${path}`, 20],
      );
      assert.ok(heard.every(Boolean));
      assert.equal(extensions.includes("permessage-deflate"), what !== "without compression");
      assert.equal(extensions.includes("server_no_context_takeover"), what === "without contexts");
      await page.close();
    });
  }
});
