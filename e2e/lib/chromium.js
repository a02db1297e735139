// The Chromium of this machine, through playwright-core, which bundles none.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];

/** Where Chromium is: `ROOMCAST_CHROMIUM`, or one of the usual places. Undefined if there is none */
export const chromiumPath = process.env.ROOMCAST_CHROMIUM || PLACES.find((place) => existsSync(place));

/** Why a test that needs a browser is left out, or false */
export const withoutChromium =
  !chromiumPath && "no Chromium here; install it (Debian, Ubuntu: apt-get install chromium) or set ROOMCAST_CHROMIUM";

export function launchChromium() {
  return chromium.launch({
    executablePath: chromiumPath,
    // A container has neither a sandbox for root, nor much shared memory, nor a graphics card.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

/**
 * A page of the server's own origin in which nothing runs yet.
 *
 * It is the server's refusal of a request without a query: a page made up by the test would not count as local, and
 * Chromium would keep its WebSockets from a local address.
 */
export async function openBarePage(browser, url) {
  const page = await browser.newPage();
  await page.goto(`${url}/socket.io/`);
  return page;
}
