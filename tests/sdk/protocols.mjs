// The demo's page of protocols: each card that can publish does so, and all show the same.
//   usage: node protocols.mjs CHROMIUM SCREENSHOT_DIR URL
// Prints {"cards": {TITLE: [...lines]}, "verdict": "...", "nodes": [...], "problems": [...]}.
import { PHONE, play, WIDE } from "./windows.mjs";

const [executablePath, shots, url] = process.argv.slice(2);

await play(executablePath, async (browser) => {
  const page = await (await browser.newContext({ viewport: WIDE })).newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
  await page.goto(`${url}/demo/protocols`);
  const told = (count) => page.waitForFunction((count) => {
    const cards = [...document.querySelectorAll("section")];
    return cards.every((card) => card.dataset.state === "open" && card.querySelectorAll("li").length === count);
  }, count);
  await told(0);
  const buttons = await page.$$("button");
  for (const [number, button] of buttons.entries()) {
    await button.click();
    await told(number + 1);
  }
  await page.screenshot({ path: `${shots}/protocols-wide.png`, fullPage: true });
  await page.setViewportSize(PHONE);
  await page.screenshot({ path: `${shots}/protocols-phone.png`, fullPage: true });
  const cards = await page.$$eval("section", (cards) => Object.fromEntries(cards.map((card) =>
    [card.querySelector("h2").textContent, [...card.querySelectorAll("li")].map((item) => item.textContent)])));
  const nodes = await page.$$eval(".state", (states) => states.map((state) => state.textContent.split(", ")[1]));
  return { cards, nodes, verdict: await page.textContent("#verdict"), problems };
});
