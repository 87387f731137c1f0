// Pages of two other origins, of which one may read server-sent events.
import { play } from "./windows.mjs";

const [, , executablePath, page, stranger, stream] = process.argv;

await play(executablePath, async (browser) => {
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(page);
  const seen = await tab.evaluate(async (stream) => {
    const seen = [];
    const source = new EventSource(stream, { withCredentials: true });
    const next = (name) => new Promise((resolve) => { source.addEventListener(name, resolve, { once: true }); });
    source.addEventListener("message", ({ data }) => seen.push(JSON.parse(data)));
    const ask = (path) => fetch(path, { method: "POST" });

    await next("open");
    let arrived = next("message");
    await ask("/publish?first");
    await arrived;
    // The server ends the response, and the browser comes back by itself.
    const ended = next("gateway:disconnect"), open = next("open");
    await ask("/disconnect");
    seen.push(JSON.parse((await ended).data).code);
    await ask("/publish?missed");
    await open;
    arrived = next("message");
    if (!seen.includes("missed")) await arrived;
    arrived = next("message");
    await ask("/publish?last");
    await arrived;
    source.close();
    return seen;
  }, stream);

  await tab.goto(stranger);
  // What a browser does not come back from.
  const closed = await tab.evaluate((stream) => new Promise((resolve) => {
    const source = new EventSource(stream);
    source.onopen = () => resolve("open");
    source.onerror = () => resolve(source.readyState === EventSource.CLOSED);
  }), stream);
  return { seen, closed };
});
