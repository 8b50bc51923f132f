// Writes to documents. A write is a message that follows from an input as every other: it is made
// exactly once, whoever dies in the middle, and in order with all that this program has written
// before to documents of the same partition.

import { stringify } from "../json.js";
import { Refused } from "./values.js";

/** The methods of messages to documents. */
const METHOD = Object.freeze({ post: 1, put: 2, patch: 3, delete: 4, act: 5 });

/** A document that is written to, by its link. */
export class Document {
  /** @param {string} link */
  constructor(link) {
    if (!link.startsWith("/")) throw new TypeError(`'${link}' is no link of a document`);
    /** @readonly */
    this.link = link;
  }

  /** @param {string} link */
  static at(link) {
    return new Document(link);
  }

  /**
   * Makes it. The program names its documents itself: all copies must say the same.
   *
   * @param {object} state
   */
  post(state) {
    return new Write(this.link, METHOD.post, stringify(state));
  }

  /**
   * Replaces what it says.
   *
   * @param {object} state
   */
  put(state) {
    return new Write(this.link, METHOD.put, stringify(state));
  }

  /**
   * Changes what it says.
   *
   * @param {object} fields
   */
  patch(fields) {
    return new Write(this.link, METHOD.patch, stringify(fields));
  }

  delete() {
    return new Write(this.link, METHOD.delete, "");
  }

  /**
   * Has an action of it done.
   *
   * @param {string} action
   * @param {object} [body]
   */
  act(action, body = {}) {
    return new Write(`${this.link}/actions/${action}`, METHOD.act, stringify(body));
  }
}

/** A write that is made and not sent. */
export class Write {
  /**
   * @param {string} link
   * @param {number} method
   * @param {string} body
   */
  constructor(link, method, body) {
    this.destination = link;
    this.method = method;
    this.payload = Buffer.from(body);
  }

  /**
   * Writes, and does not wait for what becomes of it. What is refused is told to the log of the
   * document's node only.
   *
   * @param {import("./machine.js").Context} context
   */
  fork(context) {
    context.fork(this.destination, this.method, this.payload);
  }

  /**
   * Writes, and goes on with `next` when it is known what became of it: see `written`.
   *
   * @param {import("./machine.js").Context} context
   * @param {string} next the name of a handler of `Program.next`
   * @param {unknown} [kept] what that handler is given beside the outcome
   * @returns {number} for `context.cancel`
   */
  call(context, next, kept) {
    return context.call(this.destination, this.method, this.payload, next, kept);
  }
}

/**
 * What became of a write: the status as HTTP has it, and the document as it was written, or the
 * error. The body is null when there is none, or when it is longer than 256 KiB.
 *
 * @typedef {{status: number, body: any}} Written
 */

/**
 * What became of a write, whether it was made or refused.
 *
 * @param {import("./machine.js").Outcome} outcome
 * @returns {Written}
 */
export function outcomeOfWrite(outcome) {
  const value = outcome.value();
  if (value === null || typeof value !== "object" || value.status === undefined)
    throw new Refused("this is not the outcome of a write to a document");
  return { status: Number(value.status), body: value.body ?? null };
}

/**
 * The same for one that was made.
 *
 * @param {import("./machine.js").Outcome} outcome
 * @returns {Written}
 * @throws {Refused} the code and the words, when it was refused
 */
export function written(outcome) {
  const of = outcomeOfWrite(outcome);
  if (of.status < 400) return of;
  throw new Refused(`${of.body?.code ?? ""} (${of.status}): ${of.body?.message ?? ""}`);
}
