// Draws digits on the page with a real pointer and prints, as one line of JSON, what the page answered and what went wrong.
// node draw_digits.mjs FOLDER_WITH_NODE_MODULES BROWSER FLAGS_AS_JSON URL [PICTURE]     (strokes as JSON on stdin)

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, executablePath, flags, url, picture] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/package.json`)("playwright-core");
const digits = JSON.parse(readFileSync(0, "utf8")); // per digit a list of strokes, each a list of [x, y] in 0..1

const browser = await chromium.launch({ executablePath, args: JSON.parse(flags), headless: true });
const problems = [];
const strangers = [];
try {
  const page = await browser.newPage({ viewport: { width: 390, height: 844 } }); // a phone
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || strangers.push(request.url()));
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById("status").textContent === "ready", null, { timeout: 60_000 });
  const answers = [];
  for (const strokes of digits) {
    await page.click("#clear");
    const box = await page.locator("#pad").boundingBox();
    for (const stroke of strokes) {
      const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
      await page.mouse.move(...at(stroke[0]));
      await page.mouse.down();
      for (const point of stroke.slice(1)) await page.mouse.move(...at(point));
      await page.mouse.up();
    }
    // The last answer is about the whole drawing once nothing has changed any more.
    let before = null;
    for (let calm = 0; calm < 3; ) {
      await page.waitForTimeout(60);
      const now = JSON.stringify(await page.evaluate(() => window.lastAnswer));
      calm = now !== "null" && now === before ? calm + 1 : 0;
      before = now;
    }
    const shown = await page.evaluate(() => ({
      shown: document.getElementById("answer").textContent,
      heights: [...document.querySelectorAll("#bars li")].map((row) => row.getBoundingClientRect().height),
      widths: [...document.querySelectorAll("#bars .fill")].map((bar) => parseFloat(bar.style.width)),
    }));
    answers.push({ ...JSON.parse(before), ...shown });
  }
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (picture) await page.screenshot({ path: picture, fullPage: true });
  console.log(JSON.stringify({ answers, problems, strangers, overflow }));
} finally {
  await browser.close();
}
