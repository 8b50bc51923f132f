// The console in a real browser, against three real nodes: what it shows of a node that dies, of a
// document that somebody else has changed meanwhile, on a phone, by keyboard, in the dark.
//
//   npm ci --prefix console
//   AMRITA_BINARY=target/release/amrita node console/test/browser.mjs [--shots FOLDER]
//
// Needs a Chromium, at /usr/bin/chromium or where CHROMIUM says.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";
const binary = process.env.AMRITA_BINARY ?? "target/release/amrita";
if (!existsSync(chromium)) {
  console.log(`left out: there is no browser at ${chromium}`);
  process.exit(0);
}
const { chromium: playwright } = await import("playwright-core");

const at = process.argv.indexOf("--shots");
const shots = at > 0 ? process.argv[at + 1] : undefined;
if (shots) mkdirSync(shots, { recursive: true });

const folder = mkdtempSync(join(tmpdir(), "amrita-console-"));
const first = 18600;
const address = (n) => `http://127.0.0.1:${first + n}`;
const peers = [1, 2, 3].map(address).join(",");
const start = (n) =>
  spawn(
    binary,
    [
      ["node", "--id", `n${n}`, "--port", `${first + n}`, "--sandbox", join(folder, `n${n}`)],
      ["--peer-nodes", peers, "--log-level", "warn"],
    ].flat(),
    { stdio: ["ignore", "inherit", "inherit"] },
  );
const nodes = [1, 2, 3].map(start);

async function until(what, look) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await look().catch(() => false)) return;
    await sleep(100);
  }
  throw new Error(`waited 30 s for ${what}`);
}

const ask = (method, path, body, headers = {}) =>
  fetch(address(1) + path, {
    method,
    body: body && JSON.stringify(body),
    headers: body ? { "content-type": "application/json", ...headers } : headers,
  });

let browser;
try {
  await until("three nodes", async () => (await ask("GET", "/readyz")).status === 200);
  const link = "/core/examples/one";
  const made = await ask("POST", "/core/examples", { documentSelfLink: "one", name: "first" });
  assert.equal(made.status, 200);

  browser = await playwright.launch({
    executablePath: chromium,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
      .concat(["--disable-background-networking", "--disable-component-update", "--disable-sync"]),
  });
  const mistakes = [];
  const requests = [];
  const open = async (where, options = {}) => {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
    const page = await context.newPage();
    page.on("pageerror", (error) => mistakes.push(`${where}: ${error.message}`));
    page.on("console", (said) => {
      // The browser itself complains of each answer that is an error, such as a conflict.
      const isOfAnswer = said.text().startsWith("Failed to load resource");
      if (said.type() === "error" && !isOfAnswer) mistakes.push(`${where}: ${said.text()}`);
    });
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(`${address(1)}/${where}`);
    return page;
  };
  const shot = async (page, name) => {
    if (shots) await page.screenshot({ path: join(shots, `${name}.png`) });
  };

  // Every page is there, and says what it is.
  const overview = await open("");
  await overview.getByText("3 of 3").waitFor();
  for (const name of ["Documents", "Tasks", "Immortals", "Feeds", "Backups", "Users", "Audit"]) {
    await overview.getByRole("link", { name, exact: true }).click();
    await overview.getByRole("heading", { level: 1 }).waitFor();
  }
  await overview.getByRole("link", { name: "Overview", exact: true }).click();
  await shot(overview, "overview");

  // Somebody else changes what is being edited: nothing is lost, and it is said.
  const editor = await open(`#/documents${link}`);
  await editor.getByRole("button", { name: "Edit" }).click();
  const text = editor.locator("textarea");
  await text.fill((await text.inputValue()).replace('"first"', '"mine"'));
  assert.equal((await ask("PATCH", link, { name: "theirs" })).status, 200);
  await editor.getByRole("button", { name: /^Save/ }).click();
  await editor.getByText(/changed|conflict|version/i).first().waitFor();
  await shot(editor, "conflict");
  assert.equal((await (await ask("GET", link)).json()).name, "theirs");

  // On a phone nothing is wider than the screen.
  const phone = await open("", { viewport: { width: 390, height: 800 }, colorScheme: "dark" });
  await phone.getByText("3 of 3").waitFor();
  const width = await phone.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 390, `${width} pixels wide`);
  await shot(phone, "phone");

  // By keyboard alone.
  const keys = await open("");
  await keys.getByText("3 of 3").waitFor();
  for (let tabs = 0; tabs < 20; tabs += 1) {
    await keys.keyboard.press("Tab");
    const focused = await keys.evaluate(() => document.activeElement?.textContent ?? "");
    if (focused === "Documents") break;
  }
  await keys.keyboard.press("Enter");
  await keys.getByRole("heading", { level: 1, name: "Documents" }).waitFor();

  // A node dies, and the page says so while it happens.
  nodes[2].kill("SIGKILL");
  await overview.getByText("2 of 3").waitFor();
  await shot(overview, "killed");

  // Nothing comes from elsewhere, and nothing went wrong in the page.
  const foreign = requests.filter((url) => !url.startsWith(`${address(1)}/`));
  assert.deepEqual(foreign, []);
  assert.deepEqual(mistakes, []);
  console.log(`the console works: ${requests.length} requests`);
} finally {
  await browser?.close();
  nodes.forEach((node) => node.kill("SIGKILL"));
  await sleep(200);
  rmSync(folder, { recursive: true, force: true });
}
