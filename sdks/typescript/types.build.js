// Makes `types/` from the sources: `npm run types`. With a folder as its argument it makes them there.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL(".", import.meta.url));
const folder = process.argv[2] ?? `${root}types`;
rmSync(folder, { recursive: true, force: true });
const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));
const made = spawnSync(process.execPath, [tsc, "-p", root, "--outDir", folder], {
  stdio: "inherit",
});
process.exit(made.status ?? 1);
