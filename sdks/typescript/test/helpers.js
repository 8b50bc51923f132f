// What several tests need: programs as processes of their own, which are killed.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** @type {Set<Program>} */
const running = new Set();
process.once("exit", killPrograms);

/** What a test that failed has left would keep the run from its end. */
export function killPrograms() {
  for (const program of running) program.process.kill("SIGKILL");
}

/** A program of this folder as a process of its own. */
export class Program {
  /** @type {string[]} what it has printed */
  lines = [];
  errors = "";

  /** @param {string[]} words the script, and its arguments */
  constructor(words) {
    this.words = words;
    this.process = spawn(process.execPath, words, { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
    running.add(this);
    this.process.stdin.on("error", () => {});
    let rest = "";
    this.process.stdout.setEncoding("utf8").on("data", (text) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.lines.push(...parts);
    });
    this.process.stderr.setEncoding("utf8").on("data", (text) => (this.errors += text));
    /** @type {Promise<number | null>} */
    this.ended = new Promise((resolve) => {
      this.process.once("close", (code) => {
        running.delete(this);
        resolve(code);
      });
    });
  }

  /** As a power cut would. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  /** @param {string} line */
  type(line) {
    this.process.stdin.write(`${line}\n`);
  }

  /**
   * Waits until it has printed a line like this.
   *
   * @param {RegExp | string} like
   * @param {number} [from] lines before this one do not count
   */
  async says(like, from = 0) {
    const isIt = (/** @type {string} */ line) =>
      typeof like === "string" ? line === like : like.test(line);
    await until(
      `'${this.words.join(" ")}' says ${like}; it said:\n${this.lines.slice(-10).join("\n")}\n${this.errors}`,
      () => this.lines.slice(from).some(isIt),
    );
  }
}

/**
 * @param {string} what
 * @param {() => unknown} isSo
 * @param {number} [millisMax]
 */
export async function until(what, isSo, millisMax = 60_000) {
  for (const deadline = Date.now() + millisMax; !(await isSo()); await pause(20)) {
    if (Date.now() > deadline) throw new Error(`it took longer than ${millisMax} ms until ${what}`);
  }
}

/** @param {number} millis */
export function pause(millis) {
  return new Promise((resolve) => setTimeout(resolve, millis));
}

/**
 * The compiler of the lock file, if it is installed. Another one would say something else about the
 * types, so one that was left by an earlier lock file is an error.
 *
 * @param {string} [root]
 */
export function findTsc(root = ROOT) {
  const folder = join(root, "node_modules/typescript");
  if (!existsSync(folder)) return undefined;
  const read = (/** @type {string} */ file) => JSON.parse(readFileSync(file, "utf8"));
  const wanted = read(join(root, "package-lock.json")).packages["node_modules/typescript"].version;
  const { version } = read(join(folder, "package.json"));
  if (version !== wanted) {
    throw new Error(
      `node_modules has the compiler ${version}, and package-lock.json says ${wanted}: run \`npm ci\` in sdks/typescript`,
    );
  }
  return join(folder, "bin/tsc");
}

export { ROOT };
