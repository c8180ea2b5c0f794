// Opens pages and figures in a browser, uses them, and holds what they show to the JSON that they carry.
//
// In: PACKAGES CHROMIUM SCREENSHOTS, then NAME=FILE for each page. Out: a line of JSON for each page and width,
// `{"page", "width", "problems": [..], "checked": {..}}`. Must not: reach the network.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, executablePath, screenshots, ...pages] = process.argv.slice(2);
const from = createRequire(join(packages, "package.json"));
const { chromium } = from("playwright-core");
const axe = readFileSync(from.resolve("axe-core/axe.min.js"), "utf8");

const WIDTHS = [
  { width: "phone", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, colorScheme: "light" },
  { width: "desktop", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { width: "desktop-dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
];

// What one printed unit of each unit is, and how it is printed.
const SCALES = {
  KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, k: 1e3, M: 1e6, B: 1e9, ms: 1e-3,
};

// The numbers in a text, each with half a unit of its last digit: what it was rounded from is within that.
const numbers = (text) => {
  const found = text.replaceAll("\u2212", "-").matchAll(/(<?)([-+]?\d+(?:\.(\d+))?)(?:\s*(KiB|MiB|GiB|TiB|ms|[kMB](?![\p{L}])))?/gu);
  return [...found].map(([, below, digits, decimals, unit]) => {
    const scale = SCALES[unit] ?? 1;
    const half = 0.5 * 10 ** -(decimals?.length ?? 0);
    return { value: Number(digits) * scale, within: (below ? Number(digits) : half * 1.0001) * scale };
  });
};

const holds = ({ value, within }, meant) => typeof meant === "number" && Math.abs(value - meant) <= within + Math.abs(meant) * 1e-5;

// The numbers of a value of the document in the order in which its unit prints them.
const KEYS = {
  rates: ["low", "high"], "nats-range": ["low", "high"], "rates-seen": ["least", "most"], "seconds-seen": ["least", "most"],
  divergence: ["mean", "standard_error"], "divergence-99": ["p99", "p99_standard_error"],
  share: ["percent", "standard_error"], perplexity: ["value", "standard_error"],
};

const at = (data, pointer) => pointer.split("/").slice(1)
  .reduce((value, key) => value?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], data);

// What `shown` says of the value at `pointer`, if it is another number.
const wrong = (data, { pointer, unit, text }) => {
  const value = at(data, pointer);
  if (unit === "text" || unit === "scheme") {
    return text.toLowerCase() === String(value).toLowerCase() ? null : `${pointer}: shows ${text}, is ${value}`;
  }
  const keys = KEYS[unit];
  const meant = keys ? keys.map((key) => value?.[key]) : [value];
  // A range between hyphens has no signs.
  const found = numbers(keys ? text.replaceAll("\u2013", " ") : text);
  // What prints alike is printed once.
  const pairs = found.length === 1 ? meant.map((number) => [found[0], number]) : found.map((number, index) => [number, meant[index]]);
  const same = found.length > 0 && found.length <= meant.length && pairs.every(([number, of]) => holds(number, of));
  return same ? null : `${pointer}: shows ${text}, is ${JSON.stringify(value)}`;
};

// The slider and the list of power modes: what the table shows at every third context is what the tables say.
const choices = async (page, data, problems) => {
  if (await page.locator("form.choices").count() === 0) return 0;
  const { curves, plans } = data;
  const last = curves.context_tokens.length - 1;
  const modes = await page.locator("#mode-choice option").allTextContents();
  const slider = page.locator("#context-choice");
  // What the page shows after each step, with the context and the mode of it.
  const shown = await page.evaluate(([last, modes]) => {
    const slider = document.getElementById("context-choice"), mode = document.getElementById("mode-choice");
    const steps = [];
    for (const name of modes.length > 0 ? modes : [null]) {
      if (name) mode.value = name;
      for (let index = 0; index <= last; index += 1) {
        slider.value = String(index);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        const rows = [...document.querySelectorAll("#choices-table tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent));
        steps.push({ index, mode: name, said: document.getElementById("context-shown").textContent, rows });
      }
    }
    return steps;
  }, [last, modes]);
  // By keyboard too.
  await slider.focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  const rows = await page.locator("#choices-table tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  shown.push({ index: 1, mode: modes.at(-1) ?? null, said: await page.locator("#context-shown").textContent(), rows });
  let compared = 0;
  for (const { index, mode, said, rows } of shown) {
    const tokens = curves.context_tokens[index];
    if (said !== `${tokens} tokens`) problems.push(`the slider at ${index} shows ${said}`);
    curves.plans.forEach((plan, row) => {
      const rates = mode ? plan.decode_tokens_per_second?.[mode] : null;
      const needed = plan.total_bytes[index];
      const left = plans[row].memory.available_bytes - needed;
      const isRefused = left >= 0 && !plan.fits[index];
      if (isRefused !== (rows[row][2] === "refused")) problems.push(`${tokens} tokens: ${plan.scheme} shows ${rows[row][2]}`);
      const expected = [[needed], isRefused ? [] : [left], rates ? [rates.low[index], rates.high[index]] : []];
      expected.forEach((meant, column) => {
        const text = rows[row][column + 1];
        const found = numbers(column === 2 ? text.replaceAll("\u2013", " ") : text);
        const same = meant.length === 0 ? found.length === 0
          : meant.every((number, place) => found.length > 0 && holds(found[Math.min(place, found.length - 1)], number));
        if (!same) problems.push(`${tokens} tokens, ${mode}: ${plan.scheme} shows ${text} for ${meant}`);
        compared += 1;
      });
    });
  }
  return compared;
};

// Every button copies the lines below it.
const copies = async (page, problems) => {
  const buttons = page.locator("button.copy");
  const count = await buttons.count();
  for (let index = 0; index < count; index += 1) {
    const button = buttons.nth(index);
    await button.click();
    const lines = await button.locator("xpath=ancestor::div[@class='paste']").locator("code").textContent();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    if (copied !== lines) problems.push(`button ${index} copies ${JSON.stringify(copied)}`);
    const said = await button.textContent();
    if (!said.startsWith("Copied")) problems.push(`button ${index} says ${said}`);
  }
  return count;
};

// Marks show their values to the keyboard, wherever the page scrolls for that.
const marks = async (page, problems) => {
  const shown = await page.evaluate(async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const tip = document.getElementById("tip"), shown = [];
    const all = [...document.querySelectorAll(".valued[tabindex]")].filter((mark) => mark.checkVisibility());
    for (const mark of all) {
      mark.focus();
      await frame();
      const box = tip.getBoundingClientRect();
      const inside = box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight;
      shown.push([tip.hidden ? "" : tip.textContent, mark.dataset.value, inside]);
    }
    return shown;
  });
  shown.forEach(([text, meant, inside], index) => {
    if (text !== meant || !inside) problems.push(`mark ${index} shows ${JSON.stringify(text)}${inside ? "" : " outside the window"}`);
  });
  await page.keyboard.press("Escape");
  if (await page.locator("#tip").isVisible()) problems.push("Escape leaves the value of a mark");
  return shown.length;
};

const inspect = async (browser, name, file, { width, ...options }) => {
  const problems = [], checked = {};
  const context = await browser.newContext({ ...options, permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  const address = pathToFileURL(file).href;
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
  page.on("request", (request) => {
    if (request.url() !== address && !request.url().startsWith("data:")) problems.push(`asks for ${request.url()}`);
  });
  await page.goto(address);
  if (file.endsWith(".html")) {
    const data = JSON.parse(await page.locator("#data").textContent());
    const values = await page.locator("[data-pointer]").evaluateAll((spans) => spans.map((span) =>
      ({ pointer: span.dataset.pointer, unit: span.dataset.unit, text: span.textContent })));
    problems.push(...values.map((value) => wrong(data, value)).filter((problem) => problem));
    checked.values = values.length;
    const ids = await page.locator("[id]").evaluateAll((elements) => elements.map((element) => element.id));
    problems.push(...ids.filter((id, index) => ids.indexOf(id) < index).map((id) => `two elements have the id ${id}`));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) problems.push(`the page is ${overflow} pixels too wide`);
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document));
    problems.push(...found.violations.map((rule) => `axe: ${rule.id}: ${rule.help} (${rule.nodes[0].target})`));
    checked.rules = found.passes.length;
    await page.screenshot({ path: join(screenshots, `${name}-${width}.png`), fullPage: true });
    // Colours are all that the dark one has for itself.
    if (options.colorScheme === "light") {
      checked.marks = await marks(page, problems);
      checked.choices = await choices(page, data, problems);
      checked.copied = await copies(page, problems);
    }
    if (width === "desktop") {
      await page.pdf({ path: join(screenshots, `${name}.pdf`), format: "A4" });
    }
  } else {
    await page.screenshot({ path: join(screenshots, `${name}-${width}.png`) });
  }
  await context.close();
  console.log(JSON.stringify({ page: name, width, problems, checked }));
};

const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  for (const page of pages) {
    const [name, file] = page.split(/=(.*)/s);
    for (const width of WIDTHS) {
      if (file.endsWith(".html") || width.width === "desktop") await inspect(browser, name, file, width);
    }
  }
} finally {
  await browser.close();
}
