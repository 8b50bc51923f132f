/**
 * Does side effects, beside the handlers, while this copy is the primary.
 *
 * @module
 */

import { toPayload } from "./machine.js";
import { Refused } from "./values.js";

/** So many effects are done at once; the others wait their turn, in the order in which they came. */
const EFFECTS_AT_ONCE_MAX = 16;

/** Room for the head of a RESULT beside its payload. */
const HEAD_BYTES = 64;

/**
 * The effects of one term as primary. What is being done when the term ends gives no result, and
 * the next primary does it again.
 */
export class Effects {
  /** @type {import("./machine.js").Job[]} not longer than what the program itself waits for */
  #jobs = [];
  #running = 0;
  #over = new AbortController();
  #program;
  #instance;
  #frameBytesMax;
  #write;

  /**
   * @param {import("./program.js").Program<any>} program
   * @param {string} instance
   * @param {number} frameBytesMax
   * @param {(frame: import("./frames.js").Frame) => void} write
   */
  constructor(program, instance, frameBytesMax, write) {
    this.#program = program;
    this.#instance = instance;
    this.#frameBytesMax = frameBytesMax;
    this.#write = write;
  }

  /** @param {import("./machine.js").Job} job */
  begin(job) {
    this.#jobs.push(job);
    if (this.#running < EFFECTS_AT_ONCE_MAX) {
      this.#running += 1;
      void this.#work();
    }
  }

  end() {
    this.#jobs = [];
    this.#over.abort(new Error("this copy is not the primary any more"));
  }

  async #work() {
    for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
      const [status, payload] = this.#fitting(await this.#perform(job));
      if (this.#over.signal.aborted) break;
      this.#write({ type: "RESULT", id: job.id, status, payload });
    }
    this.#running -= 1;
  }

  /**
   * @param {import("./machine.js").Job} job
   * @returns {Promise<[number, Buffer]>}
   */
  async #perform({ id, name, argument }) {
    try {
      const performer = this.#program.performers.get(name);
      if (performer === undefined)
        throw new Refused(`this program does not say how '${name}' is done`);
      const about = { key: `${this.#instance}-${id}`, signal: this.#over.signal };
      return toPayload(await performer(argument, about));
    } catch (error) {
      return toPayload(new Refused(error instanceof Error ? error.message : String(error)));
    }
  }

  /**
   * @param {[number, Buffer]} made
   * @returns {[number, Buffer]}
   */
  #fitting(made) {
    const bytes = made[1].length;
    if (bytes + HEAD_BYTES <= this.#frameBytesMax) return made;
    return toPayload(
      new Refused(`the result has ${bytes} bytes, and a frame has at most ${this.#frameBytesMax}`),
    );
  }
}
