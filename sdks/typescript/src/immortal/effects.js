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
  /** @type {[import("./program.js").Program<any>, import("./machine.js").Job][]} not longer than what the program itself waits for */
  #jobs = [];
  #running = 0;
  #over = new AbortController();
  #instance;
  #frameBytesMax;
  #write;

  /**
   * @param {string} instance
   * @param {number} frameBytesMax
   * @param {(frame: import("./frames.js").Frame) => void} write
   */
  constructor(instance, frameBytesMax, write) {
    this.#instance = instance;
    this.#frameBytesMax = frameBytesMax;
    this.#write = write;
  }

  /**
   * @param {import("./program.js").Program<any>} program the version that has asked for it
   * @param {import("./machine.js").Job} job
   */
  begin(program, job) {
    this.#jobs.push([program, job]);
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
    for (let next = this.#jobs.shift(); next !== undefined; next = this.#jobs.shift()) {
      const [program, job] = next;
      const [status, payload] = this.#fitting(await this.#perform(program, job));
      if (this.#over.signal.aborted) break;
      this.#write({ type: "RESULT", id: job.id, status, payload });
    }
    this.#running -= 1;
  }

  /**
   * @param {import("./program.js").Program<any>} program
   * @param {import("./machine.js").Job} job
   * @returns {Promise<[number, Buffer]>}
   */
  async #perform(program, { id, name, argument }) {
    try {
      const performer = program.performers.get(name);
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
