/**
 * Plays everything outside of a program, for its tests: no node, no socket, no clock. What it says
 * is gathered, and `check` finds what is not the same twice before a cluster does.
 *
 * @module
 */

import { stringify } from "../json.js";
import { readMessages, SOURCE, Splitter, STATUS } from "./frames.js";
import { Machine, Outcome, senderOf, toPayload } from "./machine.js";
import { Outputs } from "./outputs.js";

/** As a node has it unless it is told otherwise. */
const FRAME_BYTES_MAX = 1 << 20;

/** When the play begins: some time in 2023. */
const BEGIN_MICROS = 1_700_000_000_000_000;

/** @typedef {{kind: number, name: string, message: import("./frames.js").Frame, time: number}} Input */

/**
 * @typedef {object} Said
 * @property {string} to the destination; empty for the program itself
 * @property {"fork" | "call" | "answer"} kind
 * @property {number} [method]
 * @property {any} value the arguments, the body of a write, or the answer
 * @property {number} [id]
 * @property {string} [error] of an answer
 */

/** @template {object} S */
export class Play {
  #program;
  #name;
  /** @type {Input[]} */
  #inputs = [];
  /** What was said after each input, as bytes. @type {Buffer[]} */
  #spoken = [];
  /** @type {Said[]} */
  #said = [];
  #machine;
  /** @type {{at: number, bytes: Buffer}} */
  #checkpoint;
  #time = BEGIN_MICROS;
  #callId = 0;
  /** @type {Map<number, number>} timers that are awaited */
  #timers = new Map();

  /**
   * @param {import("./program.js").Program<S>} program
   * @param {{instance?: string, initial?: unknown[]}} [options]
   */
  constructor(program, { instance = program.name, initial } = {}) {
    this.#program = program;
    this.#name = instance;
    this.#machine = Machine.fresh(program);
    this.#checkpoint = { at: 0, bytes: this.#machine.save() };
    const payload = initial === undefined ? Buffer.alloc(0) : Buffer.from(stringify(initial));
    this.#give(SOURCE.node, "", { type: "START", payload });
  }

  /** The state as it is. @returns {S} */
  get state() {
    return this.#machine.state;
  }

  /** All that was said, in order. @returns {readonly Said[]} */
  get said() {
    return this.#said;
  }

  /** The effects that wait for a result. */
  get effects() {
    return this.#machine.allEffects();
  }

  /**
   * An instance sends a message and wants no answer.
   *
   * @param {string} from
   * @param {import("./program.js").Message} message
   */
  fork(from, { method, payload }) {
    this.#give(SOURCE.instance, from, { type: "FORK", method, payload });
  }

  /**
   * An instance calls.
   *
   * @param {string} from
   * @param {import("./program.js").Message} message
   * @returns {number} for `answerTo`
   */
  call(from, { method, payload }) {
    this.#callId += 1;
    this.#give(SOURCE.instance, from, { type: "CALL", id: this.#callId, method, payload });
    return this.#callId;
  }

  /**
   * Somebody outside sends an impulse.
   *
   * @param {import("./program.js").Message} message
   * @param {string} [from]
   */
  impulse({ method, payload }, from = "client/test") {
    this.#give(SOURCE.impulses, from, { type: "IMPULSE", method, payload });
  }

  /**
   * The answer that was given to a call; undefined when there is none so far.
   *
   * @param {number} call
   */
  answerTo(call) {
    return this.#said.find(({ kind, id }) => kind === "answer" && id === call);
  }

  /**
   * Another instance answers a call of the program.
   *
   * @param {Said} call as it stands in `said`
   * @param {unknown} answer a value, or a `Refused`
   */
  answer(call, answer) {
    const [status, payload] = toPayload(answer);
    const from = call.to === "" ? this.#name : call.to;
    this.#give(SOURCE.instance, from, { type: "ANSWER", id: call.id, status, payload });
  }

  /**
   * An effect gives this result.
   *
   * @param {number} id
   * @param {unknown} result a value, or a `Refused`
   */
  perform(id, result) {
    const [status, payload] = toPayload(result);
    this.#give(SOURCE.node, "", { type: "RESULT", id, status, payload });
  }

  /**
   * Time goes by, and timers fire.
   *
   * @param {number} millis
   */
  wait(millis) {
    const until = this.#time + millis * 1_000;
    for (;;) {
      const due = [...this.#timers]
        .filter(([, at]) => at <= until)
        .sort((a, b) => a[1] - b[1] || a[0] - b[0]);
      if (due.length === 0) break;
      const [id, at] = due[0];
      this.#timers.delete(id);
      this.#time = Math.max(this.#time, at);
      this.#give(SOURCE.node, "", { type: "TIMER", id });
    }
    this.#time = until;
  }

  /**
   * The upgrade to another version of the program comes, as an input among the others.
   *
   * @param {number} version
   */
  upgrade(version) {
    this.#give(SOURCE.node, "", { type: "UPGRADE", version });
  }

  /** A checkpoint is taken. */
  checkpoint() {
    this.#checkpoint = { at: this.#inputs.length, bytes: this.#machine.save() };
  }

  /** The program dies, and is there again from the last checkpoint and the log. */
  crash() {
    this.#machine = this.#replay(this.#checkpoint);
  }

  /**
   * Runs all inputs again, from the first state and from a checkpoint at each place in between, and
   * compares what is said and the state at the end.
   *
   * @throws {Error} where it is another
   */
  check() {
    const last = this.#machine.save();
    const machine = Machine.fresh(this.#program);
    for (let at = 0; at <= this.#inputs.length; at += 1) {
      const end = this.#replay({ at, bytes: machine.save() }).save();
      if (!end.equals(last))
        throw new Error(`from a checkpoint after input ${at} the state at the end is another one`);
      if (at < this.#inputs.length) this.#step(machine, at);
    }
  }

  /**
   * @param {number} kind
   * @param {string} name
   * @param {import("./frames.js").Frame} message
   */
  #give(kind, name, message) {
    this.#inputs.push({ kind, name, message, time: this.#time });
    const outputs = new Outputs(FRAME_BYTES_MAX);
    this.#handle(this.#machine, this.#inputs.length - 1, outputs);
    const bytes = outputs.take();
    this.#spoken.push(bytes);
    this.#hear(bytes);
  }

  /**
   * @param {Machine} machine
   * @param {number} at
   * @param {Outputs} outputs
   */
  #handle(machine, at, outputs) {
    const { kind, name, message, time } = this.#inputs[at];
    const place = { me: this.#name, input: at + 1, time, sender: senderOf({ kind, name }) };
    machine.message(place, outputs, message);
  }

  /**
   * @param {Machine} machine
   * @param {number} at
   */
  #step(machine, at) {
    const outputs = new Outputs(FRAME_BYTES_MAX);
    this.#handle(machine, at, outputs);
    if (!outputs.take().equals(this.#spoken[at])) {
      throw new Error(`at input ${at + 1} the program says something else than the first time`);
    }
  }

  /** @param {{at: number, bytes: Buffer}} from */
  #replay({ at, bytes }) {
    const machine = Machine.load(bytes, this.#program);
    for (let next = at; next < this.#inputs.length; next += 1) this.#step(machine, next);
    return machine;
  }

  /** @param {Buffer} bytes */
  #hear(bytes) {
    const splitter = new Splitter();
    splitter.frameBytesMax = FRAME_BYTES_MAX;
    splitter.add(bytes);
    for (let next = splitter.next(); next !== undefined; next = splitter.next()) {
      const { frame } = next;
      if (frame.type === "AWAIT" && frame.due > 0) this.#timers.set(frame.id, frame.due);
      if (frame.type === "CANCEL") this.#timers.delete(frame.id);
      if (frame.type !== "SEND") continue;
      for (const message of readMessages(frame.messages))
        this.#said.push(said(frame.destination, message));
    }
  }
}

/**
 * @param {string} to
 * @param {import("./frames.js").Frame} message
 * @returns {Said}
 */
function said(to, { type, method, id, status, payload }) {
  if (type !== "ANSWER") {
    return {
      to,
      kind: type === "CALL" ? "call" : "fork",
      method,
      id,
      // A document is deleted without a body.
      value: payload.length > 0 ? new Outcome(STATUS.value, payload).value() : undefined,
    };
  }
  const outcome = new Outcome(status, payload);
  return outcome.isError
    ? { to, kind: "answer", id, value: undefined, error: outcome.error }
    : { to, kind: "answer", id, value: outcome.value() };
}
