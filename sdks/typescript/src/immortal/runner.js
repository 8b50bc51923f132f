/**
 * Keeps a program connected: one session after the other, until it is stopped or cannot go on.
 *
 * @module
 */

import { stringify } from "../json.js";
import { Dial, LostError, SaidError, doorOfInstance } from "./dial.js";
import { Impulses } from "./impulses.js";
import { FaultError, Session } from "./session.js";

/** Where a node is looked for when none is named: where `amrita` looks, too. */
const NODES_DEFAULT = [8001, 8002, 8003, 8000].map((port) => `http://127.0.0.1:${port}`);

/** The pause before the connection is made again; doubled with each further time. */
const PAUSE_MILLIS_MIN = 10;
const PAUSE_MILLIS_MAX = 1_000;

/** So often a program may fail at the same input in a row; then it gives up, so that somebody looks. */
const FAULTS_MAX = 3;

/** So long it is tried again when the node says what may be over in a moment. */
const REFUSED_MILLIS_MAX = 30_000;

/**
 * @typedef {object} RunOptions
 * @property {string | string[]} [node] the node beside which the program runs: `http://host:port`,
 *   `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
 * @property {string} [instance] the name of the instance; the program's own unless it is said
 * @property {unknown[]} [initial] what `onStart` is given at the very first input
 * @property {string} [token] where logins are demanded, for addresses with TLS; without it
 *   `AMRITA_TOKEN` in the environment
 * @property {string} [ca] certificates in PEM of who has signed those of the nodes; without it the file
 *   that `AMRITA_CA_FILE` names
 * @property {Impulses} [impulses] where impulses are handed in, made beforehand
 * @property {AbortSignal} [signal] stops the program
 */

/** Why a program does not go on. */
export class RunError extends Error {
  /**
   * @param {"REFUSED" | "FAULT"} kind
   * @param {string} message
   * @param {{code?: string, input?: number}} what `code`: of the node; `input`: at which it failed
   */
  constructor(kind, message, { code, input }) {
    super(message);
    this.name = "RunError";
    this.kind = kind;
    this.code = code;
    this.input = input;
  }
}

/**
 * Runs a program until it is stopped. It connects again for ever, whenever the connection ends.
 *
 * @template {object} S
 * @param {import("./program.js").Program<S>} program
 * @param {RunOptions} [options]
 * @returns {Promise<void>}
 * @throws {RunError} when it cannot go on
 */
export async function run(program, options = {}) {
  const { node = NODES_DEFAULT, instance = program.name, token, ca, signal } = options;
  const dial = new Dial(node, { token, ca });
  const impulses = options.impulses ?? new Impulses();
  const initial =
    options.initial === undefined ? Buffer.alloc(0) : Buffer.from(stringify(options.initial));
  const worries = new Worries(program);
  const stop = () => impulses.stop();
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  try {
    while (!impulses.isStopped) {
      const plan = { instance, program: worries.program, initial, impulses };
      const { ended, caughtUp } = await session(plan, dial);
      if (impulses.isStopped) break;
      if (ended instanceof SaidError) dial.turnToTheNext();
      await impulses.pause(worries.after(ended, caughtUp));
    }
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/**
 * The whole main program of an immortal: reads `--node` and `--instance` from the arguments, runs,
 * and ends the process with 1 when it cannot go on.
 *
 * @template {object} S
 * @param {import("./program.js").Program<S>} program
 * @param {RunOptions} [options]
 */
export async function main(program, options = {}) {
  try {
    await run(program, { ...options, ...named(process.argv.slice(2)) });
  } catch (error) {
    tell(error instanceof RunError ? error.message : String(error));
    process.exitCode = 1;
  }
}

/**
 * @param {string[]} words
 * @returns {RunOptions}
 */
function named(words) {
  /** @type {RunOptions} */
  const found = {};
  for (let at = 0; at < words.length; at += 1) {
    const [name, inline] = words[at].split(/=(.*)/s, 2);
    if (name !== "--node" && name !== "--instance") continue;
    const value = inline ?? words[(at += 1)];
    if (value === undefined) throw new TypeError(`${name} needs a value`);
    found[name === "--node" ? "node" : "instance"] = value;
  }
  return found;
}

/**
 * @param {import("./session.js").Plan} plan
 * @param {Dial} dial
 * @returns {Promise<{ended: Error, caughtUp: boolean}>}
 */
async function session(plan, dial) {
  try {
    const { socket, head } = await dial.connect(doorOfInstance(plan.instance));
    const made = new Session(plan, socket);
    const ended = await made.run(head);
    return { ended, caughtUp: made.caughtUp };
  } catch (error) {
    if (error instanceof LostError || error instanceof SaidError)
      return { ended: error, caughtUp: false };
    throw error;
  }
}

/** What went wrong lately. */
class Worries {
  #pause = PAUSE_MILLIS_MIN;
  /** Since when it does not work at all. @type {number | undefined} */
  #since;
  /** The input at which it failed, and how often in a row. @type {[number, number]} */
  #fault = [0, 0];
  /** The reason that was told last: each is told once. */
  #told = "";

  /** @param {import("./program.js").Program<any>} program */
  constructor(program) {
    this.program = program;
  }

  /**
   * How long to wait before the next session.
   *
   * @param {Error} ended
   * @param {boolean} caughtUp
   * @throws {RunError} when there is none
   */
  after(ended, caughtUp) {
    if (caughtUp) {
      this.#pause = PAUSE_MILLIS_MIN;
      this.#since = undefined;
      this.#told = "";
    }
    this.#since ??= Date.now();
    if (ended instanceof SaidError) this.#wasRefused(ended, Date.now() - this.#since);
    else if (ended instanceof FaultError) this.#hasFailed(ended);
    else if (ended instanceof LostError) this.#tellOnce(ended.message);
    else throw ended;
    const pause = this.#pause;
    this.#pause = Math.min(pause * 2, PAUSE_MILLIS_MAX);
    return pause;
  }

  /** @param {FaultError} fault */
  #hasFailed({ input, message }) {
    const times = this.#fault[0] === input ? this.#fault[1] + 1 : 1;
    this.#fault = [input, times];
    if (times >= FAULTS_MAX) {
      throw new RunError(
        "FAULT",
        `the program failed ${FAULTS_MAX} times at input ${input}: ${message}`,
        { input },
      );
    }
    tell(`failed at input ${input}, trying again: ${message}`);
  }

  /**
   * @param {SaidError} said
   * @param {number} waited
   */
  #wasRefused({ code, text, message }, waited) {
    const { upgrade } = this.program;
    const passes = ["RELOAD", "STOPPING", "NOT_PRIMARY"].includes(code);
    const mayPass = ["ATTACHED", "NOT_HERE"].includes(code) && waited < REFUSED_MILLIS_MAX;
    if (["PROGRAM_VERSION", "UPGRADED"].includes(code) && upgrade !== undefined) {
      // The upgrade is done: this program is the new version, and says so from now on.
      this.program = upgrade.to;
    } else if (!passes && !mayPass) {
      throw new RunError("REFUSED", `the node refuses: ${code}: ${text}`, { code });
    }
    this.#tellOnce(message);
  }

  /** @param {string} why */
  #tellOnce(why) {
    if (this.#told === why) return;
    this.#told = why;
    tell(`${why}; trying again`);
  }
}

/** A line on standard error. @param {string} line */
function tell(line) {
  console.error(line);
}
