// A page of another origin reads why its requests are refused.
import { play } from "./windows.mjs";

const [, , executablePath, page, count, size, ...urls] = process.argv;

await play(executablePath, async (browser) => {
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(page);
  return tab.evaluate(async ([count, size, urls]) => {
    const body = "x".repeat(size);
    const statuses = [];
    for (let number = 0; number < count; number++) {
      for (const url of urls) {
        const answer = await fetch(url, { method: "POST", body }).catch((error) => ({ status: String(error) }));
        statuses.push(answer.status);
      }
    }
    return statuses;
  }, [Number(count), Number(size), urls]);
});
