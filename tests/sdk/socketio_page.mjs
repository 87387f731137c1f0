// Two windows of a page with the client of Socket.IO chat.
//   usage: node socketio_page.mjs CHROMIUM URL
// Prints {"first": [...], "second": [...], "problems": [...]}: the lines of each window.
import { play } from "./windows.mjs";

const [executablePath, url] = process.argv.slice(2);
const lines = (page) => page.$$eval("#lines li", (items) => items.map((item) => item.textContent));
const shows = (page, count) => page.waitForFunction(
  (count) => document.querySelectorAll("#lines li").length === count, count);

await play(executablePath, async (browser) => {
  const problems = [];
  const windows = [];
  for (let opened = 0; opened < 2; opened += 1) {
    const page = await browser.newPage();
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(url);
    await page.waitForFunction("socket.connected");
    windows.push(page);
  }
  for (const [sent, page] of windows.entries()) {
    await page.fill("#text", `<b>line ${sent}</b>`);
    await page.click("button");
    await Promise.all(windows.map((each) => shows(each, sent + 1)));
  }
  const [first, second] = await Promise.all(windows.map(lines));
  return { first, second, problems };
});
