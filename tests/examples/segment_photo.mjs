// Opens the page with a segmentation, hands it an image file, and prints the mask that it made as JSON.
// node segment_photo.mjs EXAMPLE CHROMIUM FLAGS URL IMAGE

import { createRequire } from "node:module";
import { join } from "node:path";

const [example, executablePath, flags, url, image] = process.argv.slice(2);
const { chromium } = createRequire(join(example, "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: JSON.parse(flags) });
const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
const errors = [];
page.on("pageerror", (error) => errors.push(String(error)));
await page.goto(url);
await page.waitForFunction(() => document.getElementById("status").textContent === "ready", null, { timeout: 60000 });
await page.setInputFiles("#file", image);
await page.waitForFunction(() => window.lastAnswer || document.getElementById("status").textContent.startsWith("this did"), null, { timeout: 60000 });
if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
const said = await page.evaluate(() => ({
  status: document.getElementById("status").textContent,
  labels: [...document.querySelectorAll("#bars .named")].map((part) => part.textContent),
  answer: window.lastAnswer,
}));
process.stdout.write(JSON.stringify({ ...said, errors }));
await browser.close();
