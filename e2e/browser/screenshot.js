// Writes docs/demo.webp, the picture of README.md: the demo page after its tour.
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { launchChromium } from "../lib/chromium.js";
import { startDemo } from "../lib/server.js";

const FILE = fileURLToPath(new URL("../../docs/demo.webp", import.meta.url));
const SIZE = { width: 1280, height: 720 };

const server = await startDemo();
const browser = await launchChromium();
try {
  const page = await browser.newPage({ viewport: SIZE, colorScheme: "light", reducedMotion: "reduce" });
  await page.goto(server.url);
  await page.locator(".panel[data-state=connected]").nth(3).waitFor();
  await page.locator("#tour").click();
  await page.locator("#tour:not([disabled])").waitFor({ timeout: 60_000 });
  const png = (await page.screenshot()).toString("base64");
  // Chromium encodes WebP, a third of the size of PNG; its `screenshot` does not offer it. The policy of the demo page
  // forbids the image.
  const studio = await browser.newPage();
  const webp = await studio.evaluate(async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.8);
  }, `data:image/png;base64,${png}`);
  const bytes = Buffer.from(webp.split(",")[1], "base64");
  await writeFile(FILE, bytes);
  console.log(`${FILE}: ${bytes.length} bytes`);
} finally {
  await browser.close();
  await server.stop();
}
