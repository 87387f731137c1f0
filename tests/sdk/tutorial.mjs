// Two people in the chat of docs/tutorial.md. Prints what their windows show.
import { play } from "./windows.mjs";

const [browser, url, announced] = process.argv.slice(2);

async function enter(browser, name, room) {
  const page = await (await browser.newContext()).newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  await page.goto(`${url}/?name=${name}&room=${room}`);
  return page;
}

const says = (page, text) => page.waitForFunction((text) => document.querySelector("#status").textContent === text, text);
const count = (page, number) => page.waitForFunction(
  (number) => document.querySelectorAll("#lines li").length === number, number);
const lines = (page) => page.$$eval("#lines li", (items) => items.map((item) => item.textContent));

async function write(page, text) {
  await page.fill("#text", text);
  await page.click("#form button");
}

await play(browser, async (browser) => {
  const ann = await enter(browser, "ann", "cats");
  const bob = await enter(browser, "bob", "cats");
  const dogs = await enter(browser, "ann", "dogs");
  await Promise.all([says(ann, "in cats"), says(bob, "in cats"), says(dogs, "permission denied")]);
  await write(ann, "hi");
  await count(bob, 1);
  await fetch(announced, { method: "POST" });
  await Promise.all([count(ann, 2), count(bob, 2)]);
  await ann.click("#away");
  await says(ann, "connecting");
  for (const text of ["one", "two"]) {
    await write(bob, text);
    await bob.waitForFunction(() => document.querySelector("#text").value === "");
  }
  await count(bob, 4);
  const away = await lines(ann);
  await ann.click("#away");
  await count(ann, 4);
  return { away, ann: await lines(ann), bob: await lines(bob), problems: [ann, bob, dogs].flatMap((page) => page.problems) };
});
