/**
 * A real cluster for tests: the program `amrita`, with as many nodes as you like, in a temporary
 * folder that is gone afterwards. Nodes are killed and started again as you say.
 *
 * ```js
 * const nodes = await cluster({ nodes: 3 });
 * try {
 *   const client = nodes.client();
 *   await nodes.kill("n1");
 * } finally {
 *   await nodes.stop();
 * }
 * ```
 *
 * @module
 */

import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  closeSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

import { Client } from "./client.js";
import { sleep } from "./cluster.js";

/** How long a cluster may take until it is ready. */
const READY_MILLIS_MAX = 60_000;

/** How long a node may take to end in good order; then it is killed. */
const STOP_MILLIS_MAX = 10_000;

/** So often a cluster is begun anew because another process took one of its ports. */
const STARTS_MAX = 3;

/** @type {Set<Cluster>} */
const running = new Set();

/** What is left when the tests end, is killed. */
process.once("exit", () => {
  for (const cluster of running) cluster.killAll();
});

/**
 * @typedef {object} ClusterOptions
 * @property {number} [nodes] 3
 * @property {string} [binary] the program; see `findBinary`
 * @property {string} [folder] where the data is; kept afterwards. Without it a temporary folder
 * @property {string[]} [arguments] further arguments of each node, such as `["--auth"]`
 */

/**
 * Starts a cluster, and waits until it takes writes.
 *
 * @param {ClusterOptions} [options]
 * @returns {Promise<Cluster>}
 */
export async function cluster(options = {}) {
  for (let times = 1; ; times += 1) {
    const made = new Cluster(options, await freePorts(options.nodes ?? 3));
    try {
      await made.startAll();
      return made;
    } catch (error) {
      const wasTaken = String(error).includes("in use");
      await made.stop();
      if (!wasTaken || times >= STARTS_MAX) throw error;
    }
  }
}

/**
 * The program: `$AMRITA_BINARY`, or `amrita` in the `PATH`, or in `target/release` or `target/debug`
 * of a folder above this one.
 *
 * @returns {string}
 */
export function findBinary() {
  const named = process.env.AMRITA_BINARY;
  if (named !== undefined && named !== "") {
    if (!isFile(named)) throw new Error(`AMRITA_BINARY is ${named}, and there is no such file`);
    return named;
  }
  const found = candidates().find(isFile);
  if (found !== undefined) return found;
  throw new Error(
    "the program 'amrita' is neither in the PATH nor in target/release or target/debug: build it with " +
      "`cargo build --release --bin amrita`, or name it in AMRITA_BINARY",
  );
}

/** @returns {string[]} */
function candidates() {
  const inPath = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  const above = [];
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    above.push(join(folder, "target/release"), join(folder, "target/debug"));
    if (folder === dirname(folder)) break;
  }
  return [...inPath, ...above].map((folder) => join(folder, "amrita"));
}

/** @param {string} path */
function isFile(path) {
  return existsSync(path) && statSync(path).isFile();
}

/** One node of a cluster. */
class Node {
  /**
   * @param {string} id
   * @param {number} port
   * @param {string} sandbox
   */
  constructor(id, port, sandbox) {
    this.id = id;
    this.port = port;
    this.address = `http://127.0.0.1:${port}`;
    /** Its folder; the socket for immortals is in it. */
    this.sandbox = sandbox;
    this.log = join(sandbox, "..", `${id}.log`);
    /** @type {import("node:child_process").ChildProcess | undefined} */
    this.process = undefined;
  }

  get isRunning() {
    const { process: child } = this;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }
}

export class Cluster {
  #binary;
  #arguments;
  #isTemporary;

  /**
   * @param {ClusterOptions} options
   * @param {number[]} ports
   */
  constructor(options, ports) {
    this.#binary = options.binary ?? findBinary();
    this.#arguments = options.arguments ?? [];
    this.#isTemporary = options.folder === undefined;
    /** Where the data is. */
    this.folder = options.folder ?? mkdtempSync(join(tmpdir(), "amrita-test-"));
    this.nodes = ports.map((port, at) => {
      const id = `n${at + 1}`;
      return new Node(id, port, join(this.folder, id));
    });
    running.add(this);
  }

  /** @returns {string[]} */
  get addresses() {
    return this.nodes.map((node) => node.address);
  }

  /**
   * @param {import("./cluster.js").ClientOptions} [options]
   */
  client(options = {}) {
    return new Client(this.addresses, options);
  }

  /** @param {string} id such as `n1` */
  node(id) {
    const found = this.nodes.find((node) => node.id === id);
    if (found === undefined)
      throw new Error(`there is no node '${id}', only ${this.nodes.map((node) => node.id)}`);
    return found;
  }

  /** Starts all nodes that do not run, and waits until writes are taken. */
  async startAll() {
    for (const node of this.nodes) {
      if (!node.isRunning) this.#spawn(node);
    }
    await this.ready();
  }

  /**
   * Starts a node again, and waits until it serves.
   *
   * @param {string} id
   */
  async start(id) {
    const node = this.node(id);
    if (!node.isRunning) this.#spawn(node);
    await this.#until(`${id} serves`, () => isOk(node, "/readyz"));
  }

  /**
   * Kills a node as a power cut would (`kill -9`), and waits until it is gone.
   *
   * @param {string} id
   */
  async kill(id) {
    await this.#end(this.node(id), "SIGKILL");
  }

  /**
   * Stops a node for a while, as a machine that hangs: `thaw` lets it go on.
   *
   * @param {string} id
   */
  freeze(id) {
    this.node(id).process?.kill("SIGSTOP");
  }

  /** @param {string} id */
  thaw(id) {
    this.node(id).process?.kill("SIGCONT");
  }

  /** Waits until each node that runs serves, and all partitions have owners. */
  async ready() {
    const up = this.nodes.filter((node) => node.isRunning);
    for (const node of up) {
      await this.#until(`${node.id} serves`, () => isOk(node, "/readyz"));
    }
    const [first] = up;
    if (first !== undefined) {
      await this.#until("documents are served", () => isOk(first, "/core/examples/available"));
    }
  }

  /**
   * The node that owns a document now.
   *
   * @param {string} link
   * @returns {Promise<string>} its id
   */
  async ownerOf(link) {
    const client = this.client();
    const { body } = await client.request("POST", "/core/node-selectors/default", { key: link });
    client.close();
    return body.ownerNodeId;
  }

  /** Stops all nodes and removes the temporary folder. */
  async stop() {
    for (const node of this.nodes) node.process?.kill("SIGCONT");
    await Promise.all(this.nodes.map((node) => this.#end(node, "SIGTERM")));
    running.delete(this);
    if (this.#isTemporary) rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** For the end of the process: does not wait. */
  killAll() {
    for (const node of this.nodes) node.process?.kill("SIGKILL");
    if (this.#isTemporary) rmSync(this.folder, { recursive: true, force: true });
  }

  /** @param {Node} node */
  #spawn(node) {
    mkdirSync(node.sandbox, { recursive: true });
    const log = openSync(node.log, "a");
    const peers = this.nodes.length > 1 ? ["--peer-nodes", this.addresses.join(",")] : [];
    const place = ["--id", node.id, "--port", String(node.port), "--sandbox", node.sandbox];
    const all = ["node", ...place, ...peers, ...this.#arguments];
    node.process = spawn(this.#binary, all, { stdio: ["ignore", "ignore", log] });
    node.process.on("error", () => {});
    closeSync(log);
  }

  /**
   * @param {Node} node
   * @param {"SIGTERM" | "SIGKILL"} signal
   * @returns {Promise<void>}
   */
  #end(node, signal) {
    const child = node.process;
    if (child === undefined || !node.isRunning) return Promise.resolve();
    return new Promise((resolve) => {
      const late = setTimeout(() => child.kill("SIGKILL"), STOP_MILLIS_MAX);
      child.once("exit", () => {
        clearTimeout(late);
        resolve();
      });
      child.kill(signal);
    });
  }

  /**
   * @param {string} what
   * @param {() => Promise<boolean>} isSo
   */
  async #until(what, isSo) {
    for (const deadline = Date.now() + READY_MILLIS_MAX; !(await isSo()); await sleep(25)) {
      const dead = this.nodes.find(
        (node) => node.process !== undefined && node.process.exitCode !== null,
      );
      if (dead !== undefined) throw new Error(`node ${dead.id} has ended:\n${lastLines(dead.log)}`);
      if (Date.now() > deadline) {
        const logs = this.nodes.map((node) => lastLines(node.log)).join("\n");
        throw new Error(`it took longer than ${READY_MILLIS_MAX} ms until ${what}:\n${logs}`);
      }
    }
  }
}

/**
 * Where logins are demanded, a path that wants one says no more than that the node is there.
 *
 * @param {Node} node
 * @param {string} path
 */
async function isOk(node, path) {
  try {
    const answer = await fetch(node.address + path, { signal: AbortSignal.timeout(2_000) });
    return answer.ok || answer.status === 401;
  } catch {
    return false;
  }
}

/** @param {string} log */
function lastLines(log) {
  return existsSync(log) ? readFileSync(log, "utf8").split("\n").slice(-8).join("\n") : "";
}

/**
 * @param {number} count
 * @returns {Promise<number[]>}
 */
async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, listening));
  const ports = servers.map(
    (server) => /** @type {import("node:net").AddressInfo} */ (server.address()).port,
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** @returns {Promise<import("node:net").Server>} */
function listening() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}
