/**
 * Write a program that does not die. An *immortal* is a state that is changed only by inputs, one
 * after the other. The node beside it logs each input on a quorum before the program sees it, and
 * gives it to every copy of the program; when one dies, another carries on with the same state, and
 * nothing is lost or done twice.
 *
 * ```js
 * import { contract, main, method, program, whole } from "@amrita/sdk/immortal";
 *
 * const Counter = contract({ add: method(1, whole) });
 * const counter = program("counter", () => ({ sum: 0n })).handles(Counter, {
 *   add: (state, context, number) => (state.sum += number),
 * });
 * await main(counter);
 * ```
 *
 * @module
 */

export { Document, outcomeOfWrite, Write, written } from "./documents.js";
export { Impulses } from "./impulses.js";
export { Context, Outcome } from "./machine.js";
export { Play } from "./play.js";
export { Contract, contract, Message, method, Program, program } from "./program.js";
export { main, run, RunError } from "./runner.js";
export {
  any,
  boolean,
  integer,
  list,
  number,
  optional,
  record,
  Refused,
  text,
  whole,
} from "./values.js";

/** @typedef {import("./documents.js").Written} Written */
/** @typedef {import("./impulses.js").Fate} Fate */
/** @typedef {import("./machine.js").Reply} Reply */
/** @typedef {import("./machine.js").Sender} Sender */
/** @typedef {import("./runner.js").RunOptions} RunOptions */
/**
 * @template T
 * @typedef {import("./values.js").Value<T>} Value
 */
