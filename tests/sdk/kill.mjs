// A window kills its node: everybody stays, lines are recovered, and who is here is known.
//   usage: node kill.mjs CHROMIUM SCREENSHOT_DIR URL NODE_A NODE_B
// Prints {"counts": [...], "notes": [...], "lines": [...], "second": [...], "link": "...", "problems": [...]}: how many
// people the second window showed from the kill until everybody could write again; notes and lines of the window that killed its node;
// the lines of the second; where the first window offers to open another.
import { connected, here, interrupted, lines, notes, open, PHONE, play, say, wait } from "./windows.mjs";

const [executablePath, shots, url, nodeA, nodeB] = process.argv.slice(2);

await play(executablePath, async (browser) => {
  const first = await open(browser, url, nodeA, "Ann", PHONE);
  const second = await open(browser, url, nodeB, "Bob");
  await Promise.all([here(first, 2), here(second, 2)]);
  const link = await first.getAttribute("#second", "href");
  await second.evaluate(() => {
    window.counts = [];
    const people = document.querySelector("#people");
    new MutationObserver(() => window.counts.push(people.textContent)).observe(people, { childList: true });
  });
  await interrupted(first, () => first.click("#kill"), async () => {
    for (const text of ["one", "two"]) {
      await say(second, text);
      await wait(second, text);
    }
  });
  await connected(first);
  await say(first, "I am back");
  await Promise.all([wait(first, "I am back"), wait(second, "I am back")]);
  await second.waitForFunction(() => window.counts.at(-1) === "2 here");
  const counts = await second.evaluate(() => window.counts);
  // A window that is opened now counts as well, and one that is closed does not.
  const third = await open(browser, url, nodeB, "Cem");
  await Promise.all([here(first, 3), here(second, 3), here(third, 3)]);
  await third.close();
  await Promise.all([here(first, 2), here(second, 2)]);
  await first.screenshot({ path: `${shots}/kill-phone.png` });
  // The browser reports what it asked the dead node for.
  const problems = [...first.problems, ...second.problems].filter((text) => !/ERR_CONNECTION|ERR_EMPTY/.test(text));
  return { counts, notes: await notes(first), lines: await lines(first), second: await lines(second), link, problems };
});
