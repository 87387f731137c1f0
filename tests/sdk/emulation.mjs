// The SDK in pages of two other origins, without a WebSocket; only one of them may connect.
import { play } from "./windows.mjs";

const [, , executablePath, page, stranger, endpoint, emulationEndpoint, token] = process.argv;
const SDK = new URL("node_modules/centrifuge/dist/centrifuge.js", import.meta.url).pathname;

// What one page sees: its own publications, sent in requests to the other node, or why it does not connect.
async function seen(browser, origin, transport) {
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(origin);
  await tab.addScriptTag({ path: SDK });
  return tab.evaluate(async ([transport, endpoint, emulationEndpoint, token]) => {
    const client = new Centrifuge([{ transport, endpoint: `${endpoint}/connection/${transport}` }], { token, emulationEndpoint });
    const subscription = client.newSubscription("open:a");
    const seen = [];
    const arrived = new Promise((resolve) => {
      subscription.on("publication", ({ data }) => { if (seen.push(data) === 2) resolve(seen); });
      subscription.on("subscribed", async () => {
        await subscription.publish("first");
        await subscription.publish({ second: true });
      });
      client.on("error", ({ error }) => resolve(error.message));
    });
    subscription.subscribe();
    client.connect();
    const found = await arrived;
    client.disconnect();
    return found;
  }, [transport, endpoint, emulationEndpoint, token]);
}

await play(executablePath, async (browser) => ({
  lines: await seen(browser, page, "http_stream"),
  events: await seen(browser, page, "sse"),
  refused: await seen(browser, stranger, "http_stream"),
}));
