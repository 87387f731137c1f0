// Two windows of the demo page on two nodes chat.
//   usage: node chat.mjs CHROMIUM SCREENSHOT_DIR URL NODE_A NODE_B
// Prints {"first": [...], "second": [...], "problems": [...]}: the lines of each window.
import { connected, lines, open, PHONE, play, say, wait } from "./windows.mjs";

const [executablePath, shots, url, nodeA, nodeB] = process.argv.slice(2);

await play(executablePath, async (browser) => {
  const first = await open(browser, url, nodeA, "Ann");
  const second = await open(browser, url, nodeB, "Bob", PHONE);
  for (const [page, other, text] of [[first, second, "Hello from Ann"], [second, first, "Hi Ann, Bob here"],
                                     [first, second, "<b>not bold</b> & \u{1F30D}"]]) {
    await say(page, text);
    await Promise.all([wait(page, text), wait(other, text)]);
  }
  await first.waitForFunction(() => document.querySelector("#people").textContent === "2 here");
  await first.waitForFunction(() => document.querySelector("#rtt").textContent.endsWith("ms"));
  await first.screenshot({ path: `${shots}/chat-wide.png` });
  await second.screenshot({ path: `${shots}/chat-phone.png` });
  // Ann moves to Bob's node and the chat goes on.
  await first.selectOption("#node", { label: nodeB });
  await connected(first, nodeB);
  await say(first, "Now on your node");
  await Promise.all([wait(first, "Now on your node"), wait(second, "Now on your node")]);
  return { first: await lines(first), second: await lines(second), problems: [...first.problems, ...second.problems] };
});
