// What several tests need: programs as processes of their own, which are killed.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

import { findBinary } from "../src/testing.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** @type {Set<Program>} */
const running = new Set();
process.once("exit", () => {
  for (const program of running) program.process.kill("SIGKILL");
});

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

/** @returns {string | false} why tests with a cluster are left out, or false */
export function withoutCluster() {
  try {
    findBinary();
    return false;
  } catch (error) {
    return String(error);
  }
}

/** The compiler, if it is installed here or on this machine. */
export function findTsc() {
  const local = join(ROOT, "node_modules/.bin/tsc");
  const inPath = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "tsc"));
  return [local, ...inPath].find((file) => existsSync(file));
}

export { ROOT };
