// Windows of the demo page in a real browser.
import { chromium } from "playwright-core";

const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync"];
export const WIDE = { width: 900, height: 640 };
export const PHONE = { width: 390, height: 760 };

// Runs `scene` with a browser, and prints what it returns.
export async function play(executablePath, scene) {
  const browser = await chromium.launch({ executablePath, args: QUIET });
  try {
    console.log(JSON.stringify(await scene(browser)));
  } finally {
    await browser.close();
  }
}

export async function open(browser, url, node, name, viewport = WIDE) {
  const page = await (await browser.newContext({ viewport })).newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") page.problems.push(message.text()); });
  await page.goto(`${url}/?node=${encodeURIComponent(node)}`);
  await page.fill("#name", name);
  await connected(page, node);
  return page;
}

// Until the page is connected; to this node if one is named.
export const connected = (page, node = "") => page.waitForFunction(
  (text) => document.querySelector("#status").textContent.startsWith(text), `connected to ${node}`);

export async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#send");
}

export const wait = (page, text) => page.waitForFunction(
  (text) => [...document.querySelectorAll("#log p, #log .note")].some((part) => part.textContent === text), text);

// The lines as "name node text", and what the page itself says.
export const lines = (page) => page.$$eval("#log li:not(.note)", (items) =>
  items.map((item) => [...item.querySelectorAll("b, .node, p")].map((part) => part.textContent).join(" ")));
export const notes = (page) => page.$$eval("#log .note", (items) => items.map((item) => item.textContent));

export const here = (page, count) => page.waitForFunction(
  (text) => document.querySelector("#people").textContent === text, `${count} here`);

// Lets the page lose its connection to `harm`, and come back only after `meanwhile`.
export async function interrupted(page, harm, meanwhile) {
  await page.evaluate(() => {
    const later = window.setTimeout;
    window.setTimeout = (call) => { window.resume = () => { window.setTimeout = later; call(); }; };
  });
  await harm();
  await page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("connection lost"));
  await meanwhile();
  await page.evaluate(() => window.resume());
}
