// The demo page in Chromium.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { launchChromium, withoutChromium } from "../lib/chromium.js";
import { PATIENCE } from "../lib/patience.js";
import { lastingPort, startDemo } from "../lib/server.js";

const SCREENSHOTS = fileURLToPath(new URL("../../target/e2e/", import.meta.url));
const AT_LOAD = {
  a: { kind: "polling", transport: "polling", rooms: "red" },
  b: { kind: "websocket", transport: "websocket", rooms: "blue red" },
  c: { kind: "upgraded", transport: "websocket", rooms: "blue" },
  d: { kind: "plain", transport: "websocket", rooms: "red" },
};

describe("the demo page", { skip: withoutChromium }, () => {
  let server;
  let browser;
  before(async () => {
    browser = await launchChromium();
    await mkdir(SCREENSHOTS, { recursive: true });
  });
  after(() => browser.close());
  // A server per test: a page closed between two polls leaves a client until its next ping is due.
  beforeEach(async () => {
    server = await startDemo();
  });
  afterEach(() => server.stop());

  test("connects a client per transport and joins rooms", async () => {
    const { page, complaints, foreign } = await open();
    for (const [letter, { kind, transport, rooms }] of Object.entries(AT_LOAD)) {
      await panel(page, letter, `[data-kind=${kind}][data-transport=${transport}][data-rooms="${rooms}"]`).waitFor();
      assert.notEqual(await panel(page, letter).getAttribute("data-id"), "");
    }
    assert.equal(await page.locator("#server-banner").isVisible(), false);
    await page.screenshot({ path: `${SCREENSHOTS}demo.png`, fullPage: true });
    assert.deepEqual(complaints, []);
    assert.deepEqual(foreign, [], "the page loads nothing from other servers");
    await page.close();
  });

  test("shows each message at exactly its recipients", async () => {
    const { page, complaints } = await open();
    for (const pattern of ["everyone", "others", "room", "room-others"]) {
      for (const sender of Object.keys(AT_LOAD)) {
        const tag = await page.locator("#broadcast").getAttribute("data-tag");
        const room = await panel(page, sender).locator("[name=target]").inputValue();
        await panel(page, sender).locator(`[data-action=${pattern}]`).click();
        await page.waitForFunction(
          (last) => {
            const { tag, addressed, received } = document.querySelector("#broadcast").dataset;
            return tag !== undefined && tag !== (last ?? undefined) && addressed === received;
          },
          tag,
          { timeout: PATIENCE },
        );
        const broadcast = await page.locator("#broadcast").evaluate(({ dataset }) => ({ ...dataset }));
        assert.equal(broadcast.event, pattern);
        assert.equal(broadcast.from, await panel(page, sender).getAttribute("data-id"));
        const meant = Object.keys(AT_LOAD).filter(
          (letter) =>
            !(pattern.endsWith("others") && letter === sender) &&
            !(pattern.startsWith("room") && !AT_LOAD[letter].rooms.split(" ").includes(room)),
        );
        assert.equal(Number(broadcast.received), meant.length, `${pattern} from ${sender} to ${room}`);
        if (broadcast.queued) assert.equal(Number(broadcast.queued), meant.length);
        for (const letter of Object.keys(AT_LOAD)) {
          const shown = panel(page, letter).locator(`.log > li[data-direction=in][data-tag="${broadcast.tag}"]`);
          assert.equal(await shown.count(), meant.includes(letter) ? 1 : 0, `${pattern} from ${sender} in ${letter}`);
        }
      }
    }
    await page.screenshot({ path: `${SCREENSHOTS}demo-broadcast.png`, fullPage: true });
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test("reaches clients of another page", async () => {
    const [here, there] = [await open(), await open()];
    await panel(here.page, "b").locator("[name=text]").fill("across pages");
    await panel(here.page, "b").locator("[data-action=everyone]").click();
    for (const { page } of [here, there]) {
      for (const letter of Object.keys(AT_LOAD)) {
        await panel(page, letter).locator(".log > li[data-direction=in]", { hasText: "across pages" }).waitFor();
      }
      await page.close();
    }
  });

  test("accepts slash commands, more clients and rooms", async () => {
    const { page, complaints } = await open();
    await page.locator('[data-action=add][data-kind="roomcast.json"]').click();
    await panel(page, "e", '[data-kind="roomcast.json"][data-state=connected][data-rooms=red]').waitFor();
    await panel(page, "e").locator("[name=room]").fill("green");
    await panel(page, "e").locator("[name=room]").press("Enter");
    await panel(page, "e", '[data-rooms="green red"]').waitFor();
    await panel(page, "d").locator("[name=text]").fill("/room green typed by hand");
    await panel(page, "d").locator("[data-action=everyone]").click();
    await panel(page, "e").locator(".log > li[data-event=room]", { hasText: "typed by hand" }).waitFor();
    assert.equal(await page.locator(".log > li[data-event=room]", { hasText: "typed by hand" }).count(), 1);
    await panel(page, "e").locator("[data-action=room-toggle][data-room=green]").click();
    await panel(page, "e", "[data-rooms=red]").waitFor();
    await panel(page, "e").locator("[data-action=remove]").click();
    await panel(page, "e").waitFor({ state: "detached" });
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test("disconnects and reconnects a client", async () => {
    const { page } = await open();
    for (const letter of Object.keys(AT_LOAD)) {
      await panel(page, letter).locator("[data-action=toggle]").click();
      await panel(page, letter, "[data-state=disconnected]").waitFor();
      await panel(page, letter).locator("[data-action=toggle]").click();
      await panel(page, letter, `[data-state=connected][data-rooms="${AT_LOAD[letter].rooms}"]`).waitFor();
    }
    await page.close();
  });

  test("reports server loss and rejoins rooms after reconnect", async () => {
    await server.stop();
    server = await startDemo(await lastingPort());
    const { page } = await open();
    await server.stop();
    await page.locator("#server[data-server=down]").waitFor();
    await page.locator("#server-banner").waitFor();
    await page.screenshot({ path: `${SCREENSHOTS}demo-down.png`, fullPage: true });
    server = await startDemo(server.port);
    // The button may have disappeared: the clients also retry automatically.
    await page.locator("[data-action=retry-all]").evaluate((button) => button.click());
    await page.locator("#server[data-server=up]").waitFor();
    for (const [letter, { rooms }] of Object.entries(AT_LOAD)) {
      await panel(page, letter, `[data-state=connected][data-rooms="${rooms}"]`).waitFor();
    }
    await page.close();
  });

  for (const [width, height, hasTouch] of [[1366, 768, false], [390, 844, true]]) {
    test(`shows the send controls without scrolling at ${width} × ${height}`, async () => {
      const { page } = await open({ viewport: { width, height }, hasTouch, isMobile: hasTouch });
      const shown = hasTouch ? ["a"] : Object.keys(AT_LOAD);
      for (const letter of shown) {
        for (const action of ["everyone", "others", "room", "room-others"]) {
          const { y, height: tall } = await panel(page, letter).locator(`[data-action=${action}]`).boundingBox();
          assert.ok(y >= 0 && y + tall <= height, `${action} of ${letter} ends at ${y + tall}`);
        }
      }
      await page.close();
    });
  }

  test("shows nothing in a lane for messages from before its client", async () => {
    const { page } = await open();
    await panel(page, "a").locator("[data-action=everyone]").click();
    const lane = (letter) => page.locator(`#broadcast-lanes > [data-client=${letter}]`);
    await lane("d").and(page.locator("[data-lane=reached]")).waitFor();
    await page.locator('[data-action=add][data-kind="roomcast.json"]').click();
    await panel(page, "e", "[data-state=connected]").waitFor();
    assert.equal(await lane("e").getAttribute("data-lane"), "idle");
    await panel(page, "c").locator("[data-action=others]").click();
    await lane("c").and(page.locator("[data-lane=aside]", { hasText: "not addressed" })).waitFor();
    await lane("e").and(page.locator("[data-lane=reached]")).waitFor();
    await page.close();
  });

  test("tells version and metrics of the server", async () => {
    await server.stop();
    server = await startDemo(0, { "admin-addr": "127.0.0.1:0" });
    const { page } = await open();
    assert.match(await page.locator("#version").textContent(), /^\d+\.\d+\.\d+/);
    const metrics = await page.locator("[data-link=metrics]").getAttribute("href");
    assert.match(await (await fetch(metrics)).text(), /^roomcast_/m);
    // Others may be unable to reach the admin endpoint, and need not learn of it.
    const about = await page.request.get(`${server.url}/about.json`, { headers: { host: "chat.example:80" } });
    assert.equal((await about.json()).metrics_port, null);
    await page.close();
  });

  test("runs the official client if the server has its files", async () => {
    await server.stop();
    const port = await lastingPort();
    const flags = { "serve-client": fileURLToPath(new URL("../node_modules/socket.io/client-dist", import.meta.url)) };
    server = await startDemo(port, flags);
    const { page, complaints } = await open();
    await panel(page, "e", "[data-kind='socket.io-client'][data-transport=websocket][data-rooms=red]").waitFor();
    for (const [sender, receiver] of [["e", "d"], ["d", "e"]]) {
      await panel(page, sender).locator("[name=text]").fill(`from ${sender}`);
      await panel(page, sender).locator("[data-action=room-others]").click();
      await panel(page, receiver).locator(".log > li[data-direction=in]", { hasText: `from ${sender}` }).waitFor();
    }
    await panel(page, "e").locator("[data-action=toggle]").click();
    await panel(page, "e", "[data-state=disconnected]").waitFor();
    await panel(page, "e").locator("[data-action=toggle]").click();
    // With the upgrade done, as above: the server does not stop in the middle of it.
    await panel(page, "e", "[data-state=connected][data-transport=websocket][data-rooms=red]").waitFor();
    assert.deepEqual(complaints, []);
    await server.stop();
    await panel(page, "e", "[data-state=waiting]").waitFor();
    server = await startDemo(port, flags);
    await panel(page, "e", "[data-state=connected][data-rooms=red]").waitFor();
    await page.close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`is accessible by axe-core's rules, ${colorScheme}`, async () => {
      for (const viewport of [{ width: 1366, height: 768 }, { width: 390, height: 844 }]) {
        const { page } = await open({ viewport, colorScheme, reducedMotion: "reduce" });
        await panel(page, "b").locator("[data-action=everyone]").click();
        await page.waitForFunction(() => document.querySelector("#broadcast").dataset.received === "4");
        await page.evaluate(axe.source);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document));
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
        assert.deepEqual(found, []);
        await page.close();
      }
    });
  }

  test("fits a narrow, dark screen", async () => {
    const { page } = await open({ viewport: { width: 375, height: 800 }, colorScheme: "dark" });
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(wide <= seen, `${wide} pixels on a screen of ${seen}`);
    await page.screenshot({ path: `${SCREENSHOTS}demo-narrow.png`, fullPage: true });
    await page.close();
  });

  /** The page with all clients connected, its console errors, and its requests to other servers */
  async function open(options) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
    page.setDefaultTimeout(PATIENCE);
    const complaints = [];
    const foreign = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== server.url) foreign.push(request.url());
    });
    const answer = await page.goto(`${server.url}/`);
    assert.equal(answer.status(), 200);
    await page.locator("#server[data-server=up]").waitFor();
    for (const [letter, { transport, rooms }] of Object.entries(AT_LOAD)) {
      await panel(page, letter, `[data-transport=${transport}][data-rooms="${rooms}"]`).waitFor();
    }
    return { page, complaints, foreign };
  }
});

function panel(page, letter, state = "") {
  return page.locator(`.panel[data-client=${letter}]${state}`);
}
