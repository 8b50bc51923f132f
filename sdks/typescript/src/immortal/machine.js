/**
 * A program's state with what it waits for: handles one message after the other, goes out into a
 * checkpoint and comes back, and becomes its next version. Pure: no socket, clock or chance.
 *
 * @module
 */

import { parse, stringify } from "../json.js";
import { Book } from "./book.js";
import { SOURCE, STATUS } from "./frames.js";
import { readArguments } from "./program.js";
import { load, save } from "./state.js";
import { Refused } from "./values.js";

/** The version of what stands around the state in a checkpoint. */
const CHECKPOINT_FORMAT = 1;

const MASK = (1n << 64n) - 1n;

/** A handler is running: impulses are refused meanwhile. */
let handling = false;

/** @returns {boolean} whether a handler is running now */
export function isHandling() {
  return handling;
}

/**
 * @typedef {object} Sender who sent an input
 * @property {string} name an instance, `client/...`, or empty for the node
 * @property {"node" | "instance" | "outside"} kind
 */

/**
 * @typedef {object} Place what is known of an input beside its message
 * @property {string} me
 * @property {number} input
 * @property {number} time microseconds since 1970
 * @property {Sender} sender
 */

/** @typedef {{id: number, name: string, argument: unknown}} Job an effect that is to be done */

/** Somebody waits for an answer, or nobody does. May be kept in the state. @typedef {{to: string, id: number | bigint} | null} Reply */

/** What came of a call, a timer or an effect. */
export class Outcome {
  /**
   * @param {number} status
   * @param {Buffer} payload
   */
  constructor(status, payload) {
    this.status = status;
    /** For those who do without JSON. */
    this.bytes = payload;
  }

  get isError() {
    return this.status === STATUS.error;
  }

  /** Why there is no value; empty when there is one. */
  get error() {
    return this.isError ? this.bytes.toString("utf8") : "";
  }

  /**
   * The value; undefined when it was done without one.
   *
   * @template [T=any]
   * @param {import("./values.js").Value<T>} [as] what it must be
   * @returns {T}
   * @throws {Refused} what the other side said, or that the value is another
   */
  value(as) {
    if (this.isError) throw new Refused(this.error);
    const value = this.status === STATUS.value ? json(this.bytes) : undefined;
    return as === undefined ? value : as.read(value, "the answer");
  }
}

/** What a handler may know and do. All of it is the same on every copy and in every replay. */
export class Context {
  #place;
  #machine;
  #outputs;
  #call;
  #later = false;
  #chance = 0n;

  /**
   * @param {Machine} machine
   * @param {Place} place
   * @param {import("./outputs.js").Outputs} outputs
   * @param {number | bigint | undefined} call the id of the call that is being handled
   */
  constructor(machine, place, outputs, call) {
    this.#machine = machine;
    this.#place = place;
    this.#outputs = outputs;
    this.#call = call;
  }

  /** The name of this instance. */
  get me() {
    return this.#place.me;
  }

  /** The number of this input, from 1 over the whole life of the instance. */
  get input() {
    return this.#place.input;
  }

  /** Who sent this input. */
  get sender() {
    return this.#place.sender;
  }

  /** When this input was logged, in milliseconds since 1970. Stands still in a handler, never goes back. */
  now() {
    return Math.floor(this.#place.time / 1_000);
  }

  /** As `now`, in microseconds. */
  nowMicros() {
    return this.#place.time;
  }

  /**
   * A number from 0 below 1 that looks like chance and is the same on every copy. Nothing for keys
   * and passwords: who knows the instance's name can tell it in advance.
   */
  random() {
    if (this.#chance === 0n) {
      this.#chance = scatter(hash(this.me) ^ scatter(BigInt(this.input))) | 1n;
    }
    this.#chance = (this.#chance + 0x9e3779b97f4a7c15n) & MASK;
    return Number(scatter(this.#chance) >> 11n) / 2 ** 53;
  }

  /**
   * A whole number from 0 below a bound.
   *
   * @param {number} bound
   */
  randomBelow(bound) {
    return Math.floor(this.random() * bound);
  }

  /**
   * Sends a message that needs no answer; a message of a contract does this with `.fork(context)`.
   *
   * @param {string} to
   * @param {number | bigint} method
   * @param {Uint8Array} payload
   */
  fork(to, method, payload) {
    this.#check();
    this.#outputs.send(this.#whom(to), { type: "FORK", method, payload });
  }

  /**
   * Sends a message and goes on with `next` when its answer comes.
   *
   * @param {string} to
   * @param {number | bigint} method
   * @param {Uint8Array} payload
   * @param {string} next
   * @param {unknown} [kept]
   * @returns {number} for `cancel`
   */
  call(to, method, payload, next, kept) {
    const from = this.#whom(to);
    const id = this.#enter({ what: "answer", from, next, kept });
    this.#outputs.send(from, { type: "CALL", id, method, payload });
    return id;
  }

  /**
   * Goes on with `next` after so many milliseconds, measured by the inputs' time.
   *
   * @param {number} millis
   * @param {string} next
   * @param {unknown} [kept]
   * @returns {number} for `cancel`
   */
  after(millis, next, kept) {
    return this.#wait(this.#place.time + Math.round(millis * 1_000), next, kept);
  }

  /**
   * Goes on with `next` at this time, or at once if it is past.
   *
   * @param {number | Date} moment milliseconds since 1970
   * @param {string} next
   * @param {unknown} [kept]
   * @returns {number} for `cancel`
   */
  at(moment, next, kept) {
    return this.#wait(Math.round(Number(moment) * 1_000), next, kept);
  }

  /**
   * Has an effect done on the primary, and goes on with `next` when its result is logged.
   *
   * @param {string} name
   * @param {unknown} argument
   * @param {string} next
   * @param {unknown} [kept]
   * @returns {number} for `cancel`
   */
  effect(name, argument, next, kept) {
    if (!this.#machine.program.performers.has(name))
      throw new TypeError(`there is no effect '${name}'`);
    const id = this.#enter({ what: "effect", effect: name, argument, next, kept });
    this.#outputs.frame({ type: "AWAIT", id, due: 0 });
    this.#machine.newEffects.push(id);
    return id;
  }

  /**
   * Waits no more. True if it was still waited for: then it surely does not go on with it.
   *
   * @param {number} id
   */
  cancel(id) {
    this.#check();
    const waiting = this.#machine.book.strike(id, () => true);
    if (waiting === undefined) return false;
    if (waiting.what !== "answer") this.#outputs.frame({ type: "CANCEL", id });
    return true;
  }

  /**
   * The answer comes later: what the handler gives back is no answer then. The reply is kept in the
   * state, or as what a `next` keeps, and given to `answer`.
   *
   * @returns {Reply}
   */
  reply() {
    this.#later = true;
    return this.#call === undefined ? null : { to: this.sender.name, id: this.#call };
  }

  /**
   * Gives the answer that somebody waits for.
   *
   * @param {Reply} reply
   * @param {unknown} answer a value; a `Refused` is an error; undefined: done, without a value
   */
  answer(reply, answer) {
    this.#check();
    if (reply !== null) this.#answerTo(reply.to, reply.id, answer);
  }

  /** Asks the node to take a checkpoint soon, after a lot of state has gone for example. */
  askForCheckpoint() {
    this.#check();
    this.#outputs.frame({ type: "ASK_CHECKPOINT" });
  }

  /**
   * Answers the call that is being handled, unless the answer comes later.
   *
   * @param {unknown} answer
   */
  finish(answer) {
    if (this.#call !== undefined && !this.#later)
      this.#answerTo(this.sender.name, this.#call, answer);
  }

  /**
   * A message that makes no sense. A caller is told; of others a line is left on standard error.
   *
   * @param {Refused} why
   */
  refuse(why) {
    if (this.#call !== undefined) return this.#answerTo(this.sender.name, this.#call, why);
    console.error(`input ${this.input} from '${this.sender.name}' is left out: ${why.message}`);
  }

  /**
   * @param {string} to
   * @param {number | bigint} id
   * @param {unknown} answer
   */
  #answerTo(to, id, answer) {
    const [status, payload] = toPayload(answer);
    this.#outputs.send(this.#whom(to), { type: "ANSWER", id, status, payload });
  }

  /**
   * @param {number} due
   * @param {string} next
   * @param {unknown} kept
   */
  #wait(due, next, kept) {
    if (!Number.isSafeInteger(due)) throw new RangeError(`a timer for the moment ${due}`);
    const id = this.#enter({ what: "timer", next, kept });
    // 0 would be a side effect on the wire.
    this.#outputs.frame({ type: "AWAIT", id, due: Math.max(due, 1) });
    return id;
  }

  /** @param {import("./book.js").Waiting} waiting */
  #enter(waiting) {
    this.#check();
    if (!this.#machine.program.nexts.has(waiting.next)) {
      throw new TypeError(`there is nothing to go on with by the name '${waiting.next}'`);
    }
    return this.#machine.book.enter(waiting);
  }

  /** A context that is used after its handler would say something that the other copies do not. */
  #check() {
    if (!handling || this.#machine.input !== this.input) {
      throw new Error(
        "a context is good only while its handler runs: after that, use a timer, an effect or an impulse",
      );
    }
  }

  /** Its own name and the empty one are one destination. @param {string} to */
  #whom(to) {
    return to === this.me ? "" : to;
  }
}

/** A program of one version, with its state. */
export class Machine {
  /**
   * @param {import("./program.js").Program<any>} program
   * @param {any} state
   * @param {Book} book
   */
  constructor(program, state, book) {
    this.program = program;
    this.state = state;
    this.book = book;
    /** The input that is being handled, or was handled last. */
    this.input = 0;
    /** @type {number[]} the effects that were asked for since `takeEffects` */
    this.newEffects = [];
  }

  /** @param {import("./program.js").Program<any>} program */
  static fresh(program) {
    return new Machine(program, program.fresh(), new Book());
  }

  /**
   * Handles one input.
   *
   * @param {Place} place
   * @param {import("./outputs.js").Outputs} outputs
   * @param {import("./frames.js").Frame} message
   */
  message(place, outputs, message) {
    this.input = place.input;
    handling = true;
    try {
      this.#message(place, outputs, message);
    } finally {
      handling = false;
    }
  }

  /**
   * @param {Place} place
   * @param {import("./outputs.js").Outputs} outputs
   * @param {import("./frames.js").Frame} message
   */
  #message(place, outputs, message) {
    const context = new Context(
      this,
      place,
      outputs,
      message.type === "CALL" ? message.id : undefined,
    );
    switch (message.type) {
      case "FORK":
      case "CALL":
      case "IMPULSE":
        return this.#handle(context, message);
      case "START": {
        const args = message.payload.length === 0 ? [] : json(message.payload);
        return noPromise(this.program.started(this.state, context, args));
      }
      case "TIMER":
        return this.#resume(context, message, ({ what }) => what === "timer");
      case "RESULT":
        return this.#resume(context, message, ({ what }) => what === "effect");
      case "ANSWER": {
        const from = place.sender.name === place.me ? "" : place.sender.name;
        return this.#resume(
          context,
          message,
          (waiting) => waiting.what === "answer" && waiting.from === from,
        );
      }
      case "UPGRADE":
        return this.#upgrade(message.version);
      default:
      // SKIPPED: an input that is none.
    }
  }

  /**
   * @param {Context} context
   * @param {import("./frames.js").Frame} message
   */
  #handle(context, { method, payload }) {
    const found = this.program.methods.get(method);
    try {
      if (found === undefined) throw new Refused(`there is no method ${method}`);
      const args = readArguments(found, jsonArguments(payload));
      const answer = found.handler(this.state, context, ...args);
      noPromise(answer);
      context.finish(answer);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      context.refuse(error);
    }
  }

  /**
   * @param {Context} context
   * @param {import("./frames.js").Frame} message
   * @param {(waiting: import("./book.js").Waiting) => boolean} isRight
   */
  #resume(context, { id, status, payload }, isRight) {
    const waiting = this.book.strike(id, isRight);
    // It was cancelled while its result was on the way.
    if (waiting === undefined) return;
    const next = this.program.nexts.get(waiting.next);
    if (next === undefined)
      throw new TypeError(`there is nothing to go on with by the name '${waiting.next}'`);
    const outcome = new Outcome(status ?? STATUS.empty, payload ?? Buffer.alloc(0));
    noPromise(next(this.state, context, outcome, waiting.kept));
  }

  /** @param {number} version */
  #upgrade(version) {
    const { number, upgrade } = this.program;
    // A program that is the new version already and replays from before: nothing to convert.
    if (version === number) return;
    if (upgrade === undefined || upgrade.to.number !== version) {
      throw new Error(`this program is version ${number} and cannot become version ${version}`);
    }
    this.state = upgrade.convert(this.state);
    this.program = upgrade.to;
  }

  /** @returns {Buffer} */
  save() {
    const { lastId, waiting } = this.book;
    const head = { format: CHECKPOINT_FORMAT, version: this.program.number };
    return Buffer.from(save({ ...head, lastId, waiting: new Map(waiting), state: this.state }));
  }

  /**
   * @param {Buffer} bytes
   * @param {import("./program.js").Program<any>} program of this version, or of the one that it can become
   */
  static load(bytes, program) {
    const { format, version, lastId, waiting, state } = load(bytes.toString("utf8"));
    if (format !== CHECKPOINT_FORMAT) {
      throw new Error(
        `the checkpoint is of format ${format}; this binding knows ${CHECKPOINT_FORMAT}`,
      );
    }
    const book = new Book();
    book.lastId = lastId;
    book.waiting = waiting;
    return new Machine(programOf(version, program), state, book);
  }

  /** @returns {Job[]} the effects that were asked for since this was called last */
  takeEffects() {
    const ids = this.newEffects;
    this.newEffects = [];
    return this.allEffects().filter(({ id }) => ids.includes(id));
  }

  /** @returns {Job[]} all effects without a result */
  allEffects() {
    return this.book
      .effects()
      .map(([id, { effect, argument }]) => ({ id, name: effect ?? "", argument }));
  }
}

/**
 * @param {number} version
 * @param {import("./program.js").Program<any>} program
 */
function programOf(version, program) {
  if (version === program.number) return program;
  const { upgrade } = program;
  if (upgrade !== undefined && version === upgrade.to.number) return upgrade.to;
  const has = upgrade === undefined ? program.number : `${program.number} and ${upgrade.to.number}`;
  throw new Error(`the state is of program version ${version}; this program has ${has}`);
}

/**
 * Who sent the inputs of a block.
 *
 * @param {{kind: number, name: string}} block
 * @returns {Sender}
 */
export function senderOf({ kind, name }) {
  if (kind === SOURCE.node) return { name, kind: "node" };
  return { name, kind: kind === SOURCE.instance ? "instance" : "outside" };
}

/**
 * A value as it goes over the wire.
 *
 * @param {unknown} value
 * @returns {[number, Buffer]}
 */
export function toPayload(value) {
  if (value instanceof Refused) return [STATUS.error, Buffer.from(value.message)];
  if (value === undefined || value === null) return [STATUS.empty, Buffer.alloc(0)];
  return [STATUS.value, Buffer.from(stringify(value))];
}

/** @param {Buffer} bytes */
function json(bytes) {
  return parse(bytes.toString("utf8"));
}

/** @param {Buffer} bytes */
function jsonArguments(bytes) {
  if (bytes.length === 0) return [];
  try {
    return json(bytes) ?? [];
  } catch (error) {
    throw new Refused(
      `the arguments are not JSON: ${error instanceof Error ? error.message : error}`,
    );
  }
}

/**
 * What happens behind an `await` in a handler, would happen at another moment on each copy.
 *
 * @param {unknown} given
 */
function noPromise(given) {
  if (typeof given === "object" && given !== null && "then" in given) {
    throw new TypeError("a handler must not be async: what takes time is an effect");
  }
}

/** FNV-1a. @param {string} text */
function hash(text) {
  let value = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text)) value = ((value ^ BigInt(byte)) * 0x100000001b3n) & MASK;
  return value;
}

/** The last steps of SplitMix64. @param {bigint} value */
function scatter(value) {
  let mixed = value & MASK;
  mixed = ((mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return mixed ^ (mixed >> 31n);
}
