// A node dies while somebody else publishes: the windows go on, and a window that is opened later shows the last lines.
//   usage: node failover.mjs CHROMIUM SCREENSHOT_DIR URL NODE_A PID_A NODE_B URL_C API_KEY
// Prints {"first": [...], "second": [...], "late": [...], "notes": [...], "gone": [...], "problems": [...]}: the lines
// of each window, what the first said by itself, and what it said after its lines were removed while it was away.
import { connected, interrupted, lines, notes, open, PHONE, play, wait } from "./windows.mjs";

const [executablePath, shots, url, nodeA, pidA, nodeB, urlC, key] = process.argv.slice(2);
const CHAT = "demo:chat";
let published = 0;

async function api(method, body) {
  const headers = { "X-API-Key": key };
  const answer = await fetch(`${urlC}/api/${method}`, { method: "POST", headers, body: JSON.stringify(body) });
  const { error } = await answer.json();
  if (error) throw new Error(`${method}: ${error.message}`);
}

async function publish(count) {
  for (let left = count; left; left--) {
    await api("publish", { channel: CHAT, data: { name: "Backend", node: "API", text: `line ${published++}` } });
  }
}

await play(executablePath, async (browser) => {
  const first = await open(browser, url, nodeA, "Ann");
  const second = await open(browser, url, nodeB, "Bob", PHONE);
  await publish(50);
  await wait(first, "line 49");
  await interrupted(first, () => process.kill(Number(pidA), "SIGKILL"), () => publish(50));
  await publish(50);
  await connected(first);
  await Promise.all([wait(first, "line 149"), wait(second, "line 149")]);
  const late = await open(browser, url, nodeB, "Cem");
  await wait(late, "line 149");
  const result = {
    first: await lines(first), second: await lines(second), late: await lines(late), notes: await notes(first),
    problems: [...first.problems, ...second.problems, ...late.problems],
  };
  await first.screenshot({ path: `${shots}/failover-wide.png` });
  await second.screenshot({ path: `${shots}/failover-phone.png` });
  await late.screenshot({ path: `${shots}/late-wide.png` });
  // What cannot be recovered is said.
  await interrupted(second, () => second.evaluate(() => socket.close()), async () => {
    await publish(10);
    await api("history_remove", { channel: CHAT });
  });
  await connected(second);
  result.gone = await notes(second);
  await publish(1);
  await wait(second, "line 160");
  await second.screenshot({ path: `${shots}/gone-phone.png` });
  return result;
});
