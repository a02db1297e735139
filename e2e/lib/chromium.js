// Chromium of this machine, through playwright-core, which bundles none.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];

/** Path of Chromium: `ROOMCAST_CHROMIUM`, or a usual location. Undefined if there is none */
export const chromiumPath = process.env.ROOMCAST_CHROMIUM || PLACES.find((place) => existsSync(place));

/** Reason to skip tests that need a browser, or false */
export const withoutChromium =
  !chromiumPath && "no Chromium here; install it (Debian, Ubuntu: apt-get install chromium) or set ROOMCAST_CHROMIUM";

export function launchChromium() {
  return chromium.launch({
    executablePath: chromiumPath,
    // Containers lack a sandbox for root, shared memory and a GPU.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
}

/**
 * An empty page of the server's origin.
 *
 * It is the server's rejection of a request without a query: a synthetic page would not count as local, and
 * Chromium would block its WebSockets to a local address.
 */
export async function openBarePage(browser, url) {
  const page = await browser.newPage();
  await page.goto(`${url}/socket.io/`);
  return page;
}
