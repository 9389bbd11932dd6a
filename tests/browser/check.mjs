// Drives a headless Chromium over its DevTools protocol. Node 20 has no WebSocket client, so this
// uses a pipe, where messages end in a zero byte. Usage: node check.mjs CHROMIUM REPORT.html OUT.
// Prints one line per check; exits 1 if one fails. Screenshots and the printed page are kept in OUT
// for inspection.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, page, out] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "stockpot-browser-"));
const address = pathToFileURL(page).href;
const arguments_ = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
  `--user-data-dir=${profile}`, "about:blank"];
// A process group of its own, so that all of its helpers end with it.
const browser = spawn(chromium, arguments_, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
browser.on("error", (error) => finish(`the browser did not start: ${error.message}`));
browser.on("exit", () => finish("the browser exited early"));
const timer = setTimeout(() => finish("timed out after 300 seconds"), 300_000);

let done = false;
function finish(problem) {
  if (done) return;
  done = true;
  clearTimeout(timer);
  if (problem) console.log(`FAILED ${problem}`);
  try {
    process.kill(-browser.pid, "SIGKILL");
  } catch {
    // It has already ended.
  }
  setTimeout(() => {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    process.exit(problem ? 1 : 0);
  }, 300);
}

const [input, output] = [browser.stdio[3], browser.stdio[4]];
input.on("error", () => finish("the browser closed its pipe"));
let [rest, last, session] = [Buffer.alloc(0), 0, undefined];
const waiting = new Map();
const events = [];
output.on("data", (bytes) => {
  rest = Buffer.concat([rest, bytes]);
  for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
    const message = JSON.parse(rest.subarray(0, end).toString());
    rest = rest.subarray(end + 1);
    if (message.id) waiting.get(message.id)(message);
    else events.push(message);
  }
});
async function call(method, params = {}) {
  const id = ++last;
  input.write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
  const answer = await new Promise((resolve) => waiting.set(id, resolve));
  if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
  return answer.result;
}
async function value(expression) {
  const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
  return result.value;
}

const failures = [];
function check(name, holds, seen) {
  console.log(`${holds ? "ok" : "FAILED"} ${name}${holds ? "" : `: ${JSON.stringify(seen)}`}`);
  if (!holds) failures.push(name);
}
const seen = (method) => events.filter((event) => event.method === method);

async function open({ width, height, dark = false, mobile = false, scripts = true }) {
  await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
  const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
  await call("Emulation.setEmulatedMedia", { media: "screen", features });
  await call("Emulation.setScriptExecutionDisabled", { value: !scripts });
  const before = seen("Page.loadEventFired").length;
  await call("Page.navigate", { url: address });
  while (seen("Page.loadEventFired").length === before) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function screenshot(name, clip) {
  const { data } = await call("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: clip !== undefined });
  writeFileSync(join(out, name), Buffer.from(data, "base64"));
}
// Screenshots of the page from each element downwards, `height` high.
async function shots(prefix, width, height, ids) {
  for (const id of ids) {
    const y = id === "top" ? 0 : await value(`(document.getElementById("${id}")?.getBoundingClientRect().y ?? -1) + scrollY`);
    if (y >= 0) await screenshot(`${prefix}-${id}.png`, { x: 0, y, width, height, scale: 1 });
  }
}

// Text whose contrast with its background is below 4.5:1 (WCAG AA), by computed colours; text in
// charts by its fill.
const FAINT = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll("p, li, dt, dd, td, th, h1, h2, h3, a, summary, pre, button, svg text")) {
    const style = getComputedStyle(e);
    const [a, b] = [light(channels(e.matches("text") ? style.fill : style.color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(e.tagName + " " + e.textContent.slice(0, 40));
  }
  return faint.slice(0, 5);
})()`;
const OPEN_ALL = `document.querySelectorAll("details").forEach((d) => (d.open = true))`;
// The cells of the column `title`, in the first table that has one, after `clicks` clicks on its
// header.
const SORTED = (title, clicks) => `(() => {
  const head = [...document.querySelectorAll("th")].find((th) => th.textContent === ${JSON.stringify(title)});
  for (let i = 0; i < ${clicks}; i++) head.querySelector("button").click();
  const rows = [...head.closest("table").tBodies[0].rows];
  return { cells: rows.map((row) => row.cells[head.cellIndex].textContent), aria: head.getAttribute("aria-sort"), rows: rows.length };
})()`;

async function desktop() {
  await open({ width: 1280, height: 900 });
  check("all sections are present", (await value(`document.querySelectorAll("section").length`)) >= 5);
  check("no sideways scroll on a desktop", ...(await fits(1280)));
  await shots("desktop", 1280, 1500, SHOWN);
  await value(OPEN_ALL);
  check("text contrast, light", ...(await none(FAINT)));
  await sorting();
  await pointing();
}
// Compares with the requested width: a phone's innerWidth grows with content that is too wide.
async function fits(width) {
  const needed = await value("document.documentElement.scrollWidth");
  return [needed <= width, [needed, width]];
}
async function none(expression) {
  const list = await value(expression);
  return [list.length === 0, list];
}

async function sorting() {
  const numbers = (cells) => cells.map((cell) => parseFloat(cell.replace(/,/g, "")));
  const rising = (list) => list.every((x, i) => i === 0 || isNaN(x) || list[i - 1] <= x);
  const before = await value(SORTED("r", 0));
  const up = await value(SORTED("r", 1));
  const down = await value(SORTED("r", 1));
  check("a click sorts numbers upwards", rising(numbers(up.cells)) && up.aria === "ascending", up);
  check("a second click downwards", rising(numbers(down.cells).filter((x) => !isNaN(x)).reverse()) && down.aria === "descending", down);
  check("no row is lost", up.rows === before.rows && down.rows === before.rows && up.rows > 3, up.rows);
  check("the two orders differ", up.cells.join() !== down.cells.join(), up.cells);
  const words = (await value(SORTED("proxy", 1))).cells;
  check("words sort as words", words.join() === [...words].sort(new Intl.Collator().compare).join(), words);
  const marked = await value(`document.querySelectorAll("th[aria-sort]").length`);
  check("one header is marked as sorted", marked === 1, marked);
}

async function pointing() {
  const tip = `document.getElementById("tip").hidden ? null : document.getElementById("tip").textContent`;
  const at = await value(`(() => { const c = document.querySelector("#plots .chart .m"); c.scrollIntoView({ block: "center" });
    const b = c.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()`);
  await new Promise((resolve) => setTimeout(resolve, 300)); // scrolling hides the label
  await call("Input.dispatchMouseEvent", { type: "mouseMoved", x: at[0], y: at[1] });
  const hovered = await value(tip);
  check("a point shows its label under the pointer", /: MERGED [\d.]+, SEQ [\d.]+/.test(hovered), hovered);
  await screenshot("hover.png");
  await call("Input.dispatchMouseEvent", { type: "mouseMoved", x: 1, y: 1 });
  check("the label disappears with the pointer", (await value(tip)) === null);
  await value(`document.querySelector("#plots .chart").focus()`);
  for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key: "ArrowRight", code: "ArrowRight" });
  const stepped = await value(tip);
  check("arrow keys step through the points", /: MERGED [\d.]+, SEQ [\d.]+/.test(stepped), stepped);
  await value(`document.querySelector("#search .map").focus()`);
  await new Promise((resolve) => setTimeout(resolve, 300)); // scrolling hides the label
  for (const key of ["ArrowRight", "ArrowDown"])
    for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key, code: key });
  const cell = await value(tip);
  const second = await value(`document.querySelectorAll("#search .map text[text-anchor=end]")[2].textContent`); // after the scale and the first row
  check("arrow keys step through the rows of a heat map", cell?.startsWith(second + " on "), [cell, second]);
}

async function phone() {
  await open({ width: 360, height: 740, mobile: true });
  check("no sideways scroll on a phone", ...(await fits(360)));
  await shots("phone", 360, 1400, SHOWN);
  await value(OPEN_ALL);
  check("no sideways scroll with all parts open", ...(await fits(360)));
}

async function dark() {
  await open({ width: 1280, height: 900, dark: true });
  await shots("dark", 1280, 1500, SHOWN);
  await value(OPEN_ALL);
  check("text contrast, dark", ...(await none(FAINT)));
}

async function colourBlind() {
  await open({ width: 1280, height: 900 });
  await call("Emulation.setEmulatedVisionDeficiency", { type: "deuteranopia" });
  await shots("deuteranopia", 1280, 1500, SHOWN);
  await call("Emulation.setEmulatedVisionDeficiency", { type: "none" });
}

async function paper() {
  await open({ width: 1280, height: 900, dark: true, scripts: false });
  check("without scripts the page has its tables", (await value(`document.querySelectorAll("tbody tr").length`)) > 20);
  const { data } = await call("Page.printToPDF", { printBackground: false, paperWidth: 8.27, paperHeight: 11.69 });
  const pdf = Buffer.from(data, "base64");
  writeFileSync(join(out, "print.pdf"), pdf);
  // As on paper: collapsed parts have a height, and no table is wider than its box.
  await call("Emulation.setEmulatedMedia", { media: "print" });
  await call("Emulation.setDeviceMetricsOverride", { width: 720, height: 1000, deviceScaleFactor: 1, mobile: false });
  const hidden = `[...document.querySelectorAll("details")].filter((d) => d.lastElementChild.getBoundingClientRect().height === 0)
    .map((d) => d.firstElementChild.textContent)`;
  check("paper shows collapsed parts", ...(await none(hidden)));
  const cut = `[...document.querySelectorAll(".wide, pre")].filter((e) => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)
    .map((e) => [e.textContent.slice(0, 60), e.scrollWidth, e.clientWidth])`;
  check("paper cuts no table", ...(await none(cut)));
  check("paper is white", (await value("getComputedStyle(document.body).backgroundColor")) === "rgb(255, 255, 255)");
  await shots("paper", 720, 1000, SHOWN);
  check("the PDF has pages", pdf.length > 20_000, pdf.length);
}

const SHOWN = ["top", "found", "search", "proxies", "picking", "noise", "scaled", "scales", "laws", "segments", "plots", "cost", "training", "data"];
try {
  const { targetInfos } = await call("Target.getTargets");
  const { targetId } = targetInfos.find((target) => target.type === "page");
  session = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await call(`${domain}.enable`);
  for (const step of [desktop, phone, dark, colourBlind, paper]) await step();
  const errors = [
    ...seen("Runtime.exceptionThrown").map((event) => event.params.exceptionDetails.text),
    ...seen("Runtime.consoleAPICalled").map((event) => JSON.stringify(event.params.args)),
    ...seen("Log.entryAdded").map((event) => event.params.entry.text),
  ];
  check("the console is empty", errors.length === 0, errors);
  // Simulated colour blindness is a filter that the browser itself loads from a data URL.
  const requests = seen("Network.requestWillBeSent").map((event) => event.params.request.url).filter((url) => !url.startsWith("data:"));
  check("only the page is fetched", requests.length > 0 && requests.every((url) => url === address), requests);
  finish(failures.length ? `${failures.length} checks failed` : undefined);
} catch (error) {
  finish(error.stack);
}
