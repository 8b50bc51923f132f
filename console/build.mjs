// Builds the console's files into crates/server/console, where the server embeds them.
//
//   node build.mjs            writes them
//   node build.mjs --check    fails if those that are committed are not what the sources give
//
// The same sources and the same package-lock.json give the same bytes on every machine: the files
// name no path, no time and no machine.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "crates", "server", "console");
const isCheck = process.argv.includes("--check");

let esbuild;
try {
  esbuild = await import("esbuild");
} catch {
  console.error("esbuild is not there: run `npm ci --prefix console` first");
  process.exit(2);
}

const built = await esbuild.build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/style.css" },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: "out",
  write: false,
});
const text = (ending) => built.outputFiles.find((file) => file.path.endsWith(ending)).text;
const files = {
  "app.js": text(".js"),
  "app.css": text(".css"),
  "index.html": await readFile(join(here, "src", "index.html"), "utf8"),
  "icon.svg": await readFile(join(here, "src", "icon.svg"), "utf8"),
};

await mkdir(out, { recursive: true });
let stale = [];
for (const [name, made] of Object.entries(files)) {
  const path = join(out, name);
  const found = await readFile(path, "utf8").catch(() => "");
  if (found !== made) stale.push(name);
  if (!isCheck) await writeFile(path, made);
  console.log(`${name}: ${Buffer.byteLength(made)} bytes`);
}
if (isCheck && stale.length > 0) {
  const names = stale.join(", ");
  console.error(`not what the sources give: ${names}; run \`npm run build --prefix console\``);
  process.exit(1);
}
