// Two windows with the chat of everybody's first article about Socket.IO, each at another node.
//   usage: node socketio_chat.mjs CHROMIUM PAGE URL_A URL_B
// Prints {"first": [...], "second": [...], "problems": [...]}: the lines of each window.
import { play, WIDE } from "./windows.mjs";

const [executablePath, page, ...urls] = process.argv.slice(2);

async function open(browser, url, problems) {
  const tab = await (await browser.newContext({ viewport: WIDE })).newPage();
  tab.on("pageerror", (error) => problems.push(String(error)));
  tab.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
  await tab.goto(`${page}/?url=${encodeURIComponent(url)}`);
  await tab.waitForFunction(() => socket.connected && socket.io.engine.transport.name === "websocket");
  return tab;
}

async function say(tab, text) {
  await tab.fill("input", text);
  await tab.click("button");
}

const lines = (tab) => tab.$$eval("li", (items) => items.map(({ textContent }) => textContent));
const shows = (tab, text) => tab.waitForFunction(
  (text) => [...document.querySelectorAll("li")].some((item) => item.textContent === text), text);

await play(executablePath, async (browser) => {
  const problems = [];
  const windows = [];
  for (const url of urls) windows.push(await open(browser, url, problems));
  const [first, second] = windows;
  for (const [tab, text] of [[first, "Hello from Ann"], [second, "Hi Ann, <b>Bob</b> here \u{1F30D}"], [first, "Bye"]]) {
    await say(tab, text);
    await Promise.all(windows.map((each) => shows(each, text)));
  }
  return { first: await lines(first), second: await lines(second), problems };
});
