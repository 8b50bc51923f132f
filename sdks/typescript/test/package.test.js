// The package as it is published: packed, installed from the file, used from TypeScript and without
// anything of Node; and the page that leads there.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { cluster, findBinary } from "../src/testing.js";
import { findTsc, ROOT } from "./helpers.js";

const hasNpm = spawnSync("npm", ["--version"]).status === 0;
const withoutNpm = hasNpm ? false : "npm is not there";
const tsc = findTsc();
const withoutTsc = tsc === undefined ? "the compiler is not there: `npm ci`" : withoutNpm;
const folder = mkdtempSync(join(tmpdir(), "amrita-package-"));

/**
 * @param {string} program
 * @param {string[]} words
 * @param {string} [where]
 */
function runs(program, words, where = folder) {
  // A test runner within this one would think that it is part of it.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const done = spawnSync(program, words, {
    cwd: where,
    encoding: "utf8",
    timeout: 120_000,
    env: { ...env, AMRITA_BINARY: findBinary() },
  });
  assert.equal(done.status, 0, `${program} ${words.join(" ")}:\n${done.stdout}\n${done.stderr}`);
  return done.stdout;
}

before(() => {
  if (withoutNpm) return;
  runs("npm", ["pack", "--pack-destination", folder], ROOT);
  const [packed] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  assert.equal(packed, "amrita-sdk-0.1.0.tgz");
  writeFileSync(
    join(folder, "package.json"),
    '{"name": "user", "private": true, "type": "module"}',
  );
  runs("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${packed}`]);
});

after(() => rmSync(folder, { recursive: true, force: true }));

test("the package is packed, and installed from the file", { skip: withoutNpm }, () => {
  const installed = join(folder, "node_modules/@amrita/sdk");
  const files = readdirSync(installed);
  for (const name of ["LICENSE", "README.md", "package.json", "src", "types", "examples"])
    assert.ok(files.includes(name), name);
  assert.ok(!files.includes("test") && !files.includes("node_modules"), files.join());
  assert.deepEqual(
    readdirSync(join(folder, "node_modules")).filter((name) => !name.startsWith(".")),
    ["@amrita"],
    "no dependencies",
  );
  const script = `import { Client, parse } from "@amrita/sdk";
    import { contract, program } from "@amrita/sdk/immortal";
    import { cluster } from "@amrita/sdk/testing";
    if (parse("9007199254740993") !== 9007199254740993n || !Client || !contract || !program || !cluster) throw new Error();`;
  runs(process.execPath, ["--input-type=module", "-e", script]);
});

test("the declarations are those of the sources", { skip: withoutTsc }, () => {
  const fresh = join(folder, "types");
  runs(process.execPath, ["types.build.js", fresh], ROOT);
  const names = listed(fresh);
  assert.deepEqual(listed(join(ROOT, "types")), names);
  for (const name of names) {
    assert.equal(
      readFileSync(join(ROOT, "types", name), "utf8"),
      readFileSync(join(fresh, name), "utf8"),
      `types/${name}: npm run types`,
    );
  }
});

test("the types of sources, tests and examples are right", { skip: withoutTsc }, () => {
  runs(process.execPath, [tsc ?? "", "-p", "tsconfig.check.json"], ROOT);
});

test("a compiler that is not that of the lock file is not taken", () => {
  const stale = join(folder, "stale");
  mkdirSync(join(stale, "node_modules/typescript"), { recursive: true });
  cpSync(join(ROOT, "package-lock.json"), join(stale, "package-lock.json"));
  writeFileSync(join(stale, "node_modules/typescript/package.json"), '{"version": "4.0.0"}');
  assert.throws(() => findTsc(stale), /compiler 4\.0\.0, and package-lock\.json says .*npm ci/);
});

test("the client part needs nothing of Node", async () => {
  // A copy in which the way to a node is that of browsers.
  const copy = join(folder, "browser");
  mkdirSync(copy);
  cpSync(join(ROOT, "src"), join(copy, "src"), { recursive: true });
  writeFileSync(
    join(copy, "package.json"),
    '{"type": "module", "imports": {"#wire": "./src/wire-fetch.js"}}',
  );
  for (const name of reached(join(copy, "src"), "index.js")) {
    assert.doesNotMatch(
      readFileSync(join(copy, "src", name), "utf8"),
      /from "node:|\bBuffer\b|\bprocess\./,
      name,
    );
  }
  const nodes = await cluster();
  try {
    const script = `globalThis.crypto ??= (await import("node:crypto")).webcrypto;
      const { Client } = await import("./src/index.js");
      const examples = new Client(["http://127.0.0.1:1", ...${JSON.stringify(nodes.addresses)}]).kind("/core/examples");
      await examples.create({ name: "größer" }, { name: "one" });
      await examples.update("one", (one) => ({ ...one, counter: 9007199254740993n }));
      const { name, counter } = await examples.get("one");
      if (name !== "größer" || counter !== 9007199254740993n) throw new Error(name + counter);
      for await (const { action, document } of examples.follow()) {
        if (action === "FOUND") await examples.patch("one", { name: "last" });
        else if (document.name === "last") break;
      }`;
    runs(process.execPath, ["--input-type=module", "-e", script], copy);
  } finally {
    await nodes.stop();
  }
});

test(
  "the page that leads from an empty folder to a service says what is true",
  { skip: withoutTsc, timeout: 120_000 },
  () => {
    const page = readFileSync(join(ROOT, "../../docs/typescript.md"), "utf8");
    const blocks = [...page.matchAll(/```(ts|json)\n(.*?)```/gs)].map(([, kind, text]) => ({
      kind,
      text,
    }));
    const user = join(folder, "tickets");
    mkdirSync(join(user, "node_modules"), { recursive: true });
    symlinkSync(join(folder, "node_modules/@amrita"), join(user, "node_modules/@amrita"));
    symlinkSync(join(ROOT, "node_modules/@types"), join(user, "node_modules/@types"));
    writeFileSync(join(user, "package.json"), '{"type": "module"}');
    const config = blocks.find(
      ({ kind, text }) => kind === "json" && text.includes("compilerOptions"),
    );
    writeFileSync(join(user, "tsconfig.json"), config?.text ?? "");
    const named = blocks.flatMap(({ text }) => {
      const name = /^\/\/ (\S+\.ts)\n/.exec(text)?.[1];
      return name === undefined ? [] : [{ name, text }];
    });
    assert.deepEqual(
      named.map(({ name }) => name),
      ["tickets.ts", "start.ts", "tickets.test.ts"],
    );
    for (const { name, text } of named) writeFileSync(join(user, name), text);
    // The blocks that only show how something is called are compiled as well.
    const shown = blocks
      .filter(({ kind, text }) => kind === "ts" && !/^\/\/ \S+\.ts\n/.test(text))
      .map(({ text }) => text);
    const head = `import { Client, quoted, where } from "@amrita/sdk";
    interface Seat { row: string; balance: bigint }
    declare const token: string, password: string, schema: object;`;
    writeFileSync(join(user, "shown.ts"), `${head}\n${shown.join("\n")}`);
    runs(process.execPath, [tsc ?? ""], user);
    const said = runs(process.execPath, ["--test", "build/tickets.test.js"], user);
    assert.match(said, /pass 2/);
  },
);

/** @param {string} root */
function listed(root) {
  /** @type {string[]} */
  const found = [];
  const walk = (/** @type {string} */ below) => {
    for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
      if (entry.isDirectory()) walk(join(below, entry.name));
      else found.push(join(below, entry.name));
    }
  };
  walk("");
  return found.sort();
}

/**
 * The files that a file imports, and those that these import.
 *
 * @param {string} root
 * @param {string} first
 */
function reached(root, first) {
  const found = new Set(["wire-fetch.js", first]);
  for (const name of found) {
    for (const [, other] of readFileSync(join(root, name), "utf8").matchAll(
      /^(?:import|export) .*?from "\.\/(.*?)";/gms,
    ))
      found.add(other);
  }
  return found;
}
