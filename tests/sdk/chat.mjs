// Two windows of the demo page on two nodes chat, in a real browser.
//   usage: node chat.mjs CHROMIUM SCREENSHOT_DIR URL_A NODE_A NODE_B
// Prints {"first": [...], "second": [...]}: the messages each window shows, as "name node text".
import { chromium } from "playwright-core";

const [executablePath, shots, url, nodeA, nodeB] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"],
});

async function open(node, name, viewport) {
  const page = await (await browser.newContext({ viewport })).newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
  page.problems = problems;
  await page.goto(`${url}/?node=${encodeURIComponent(node)}`);
  await page.fill("#name", name);
  await page.waitForFunction((node) => document.querySelector("#status").textContent === `connected to ${node}`, node);
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#send");
}

const shown = (page) => page.$$eval("#log li:not(.note)", (items) =>
  items.map((item) => [...item.querySelectorAll("b, .node, p")].map((part) => part.textContent).join(" ")));
const wait = (page, text) =>
  page.waitForFunction((text) => [...document.querySelectorAll("#log p")].some((p) => p.textContent === text), text);

try {
  const first = await open(nodeA, "Ann", { width: 900, height: 640 });
  const second = await open(nodeB, "Bob", { width: 390, height: 760 });
  for (const [page, other, text] of [[first, second, "Hello from Ann"], [second, first, "Hi Ann, Bob here"],
                                     [first, second, "<b>not bold</b> & \u{1F30D}"]]) {
    await say(page, text);
    await Promise.all([wait(page, text), wait(other, text)]);
  }
  await first.waitForFunction(() => document.querySelectorAll(".person").length === 2);
  await first.waitForFunction(() => document.querySelector("#rtt").textContent.endsWith("ms"));
  await first.screenshot({ path: `${shots}/chat-wide.png` });
  await second.screenshot({ path: `${shots}/chat-phone.png` });
  // Ann moves to Bob's node and the chat goes on.
  await first.selectOption("#node", { label: nodeB });
  await first.waitForFunction((node) => document.querySelector("#status").textContent === `connected to ${node}`, nodeB);
  await say(first, "Now on your node");
  await Promise.all([wait(first, "Now on your node"), wait(second, "Now on your node")]);
  console.log(JSON.stringify({
    first: await shown(first), second: await shown(second), problems: [...first.problems, ...second.problems],
  }));
} finally {
  await browser.close();
}
