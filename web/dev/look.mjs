// Looks at a built page: a screenshot of every view in light and dark, findings of axe, errors of the console, times.
//   node web/dev/look.mjs SITE OUT [view ...]        CHROMIUM names the browser, WIDTH the window
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [site, out, ...asked] = process.argv.slice(2);
const run = process.env.RUN ?? "g0-lora-rte-42";
const VIEWS = {
  leaderboard: "#/leaderboard",
  missing: "#/leaderboard?model=Qwen3-1.7B",
  common: "#/leaderboard?model=Qwen3-1.7B&common=1",
  all: "#/leaderboard?model=*",
  imported: "#/leaderboard?source=paper",
  pscp: "#/pscp",
  "pscp-paper": "#/pscp?table=paper",
  pareto: "#/pareto",
  heatmap: "#/heatmap",
  gaps: "#/heatmap?model=Qwen3-1.7B&colour=base",
  method: "#/method/lora",
  dataset: "#/dataset/rte",
  runs: "#/runs",
  run: `#/run/${run}`,
  diff: `#/diff/${run}/${run.replace("lora", "ia3")}`,
  paper: "#/paper",
  errata: "#/errata",
  live: "#/live",
};
await mkdir(out, { recursive: true });
const width = Number(process.env.WIDTH ?? 1280);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let bad = 0;
for (const theme of (process.env.THEMES ?? "light,dark").split(",")) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: theme });
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && (bad++, console.log("  console:", message.text())));
  page.on("pageerror", (error) => { bad++; console.log("  error:", error.message); });
  page.on("request", (request) => /^(file|data|blob):/.test(request.url()) || console.log("  request:", request.url()));
  for (const [name, hash] of Object.entries(VIEWS)) {
    if (asked.length > 0 && !asked.includes(name)) continue;
    await page.goto("about:blank");
    await page.goto(pathToFileURL(resolve(site, "index.html")).href + hash);
    await page.waitForSelector("main");
    await page.waitForTimeout(700);
    await page.screenshot({ path: `${out}/${name}-${theme}-${width}.png`, fullPage: true });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { preload: false }));
    for (const each of violations) {
      if (["serious", "critical"].includes(each.impact)) bad++;
      console.log(`${name} ${theme}: ${each.impact} ${each.id}: ${each.nodes.slice(0, 3).map((node) => node.target.join(" ") + " " + (node.any[0]?.message ?? "")).join(" | ")}`);
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) console.log(`${name} ${theme}: ${wide} pixels too wide`);
  }
  await context.close();
}
await browser.close();
console.log(bad === 0 ? "nothing serious" : `${bad} serious findings`);
