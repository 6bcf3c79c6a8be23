// Times of a built page: first paint, and from a change of the address to the next painted frame.
//   node web/dev/speed.mjs SITE
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const address = pathToFileURL(resolve(process.argv[2], "index.html")).href;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function opened(hash) {
  const page = await browser.newPage();
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector("main table")) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => (globalThis.tableAt = performance.now())));
    }).observe(document, { childList: true, subtree: true });
  });
  await page.goto(address + hash);
  await page.waitForFunction(() => globalThis.tableAt);
  await page.waitForTimeout(1500);
  return page;
}

for (const hash of ["#/leaderboard", "#/runs", "#/heatmap", "#/pscp", "#/leaderboard?model=*"]) {
  const paints = [];
  for (let turn = 0; turn < 3; turn++) {
    const page = await opened(hash);
    paints.push(await page.evaluate(() => globalThis.tableAt));
    await page.close();
  }
  console.log(`${hash}: table painted after ${Math.round(middle(paints))} ms`);
}

const changes = {
  "#/leaderboard": ["#/leaderboard?area=math", "#/leaderboard?dataset=rte,cola", "#/leaderboard?common=1", "#/leaderboard?method=lora,ia3", "#/leaderboard?area=math&leaderboard.sort=missing"],
  "#/runs": ["#/runs?dataset=rte", "#/runs?method=lora", "#/runs?runs.sort=-score", "#/runs?status=done&runs.page=3"],
  "#/heatmap": ["#/heatmap?area=math", "#/heatmap?colour=base"],
  "#/pscp": ["#/pscp?b.memory_bytes=2", "#/pscp?b.memory_bytes=2.05", "#/pscp?c.trainable_params=1000000", "#/pscp?area=math"],
  "#/leaderboard?model=*": ["#/leaderboard?model=*&area=math"],
};
for (const [start, nexts] of Object.entries(changes)) {
  const page = await opened(start);
  for (const next of nexts) {
    const times = [];
    for (let turn = 0; turn < 7; turn++)
      for (const hash of [next, start]) {
        times.push(await page.evaluate((to) => new Promise((done) => {
          const from = performance.now();
          location.hash = to;
          addEventListener("hashchange", () => setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - from)))), { once: true });
        }), hash));
        await page.waitForTimeout(60);
      }
    console.log(`${next}: ${Math.round(middle(times))} ms (longest ${Math.round(Math.max(...times))})`);
  }
  await page.close();
}
await browser.close();
