/**
 * What a writer of an immortal says: which messages there are (`contract`), and what the program
 * does with them (`program`).
 *
 * @module
 */

import { stringify } from "../json.js";
import { Refused } from "./values.js";

/**
 * @template {any[]} A
 * @typedef {object} Method
 * @property {number} number
 * @property {{[I in keyof A]: import("./values.js").Value<A[I]>}} values
 */

/** @typedef {Record<string, Method<any>>} Methods */

/**
 * The arguments of a method.
 *
 * @template M
 * @typedef {M extends Method<infer A> ? A : never} ArgumentsOf
 */

/**
 * A method of a contract: its number, and what its arguments are. The number is what goes over the
 * wire and into the log: it is never given to another method, and a method with other arguments
 * gets a new one.
 *
 * @template {any[]} A
 * @param {number} number
 * @param {{[I in keyof A]: import("./values.js").Value<A[I]>}} values
 * @returns {Method<A>}
 */
export function method(number, ...values) {
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new TypeError(
      `a method has a whole number from 0, not ${number}: those below 0 are reserved`,
    );
  }
  return { number, values };
}

/**
 * @template {Methods} M
 * @param {M} methods
 * @returns {Contract<M>}
 */
export function contract(methods) {
  return new Contract(methods);
}

/**
 * The messages that an instance understands.
 *
 * @template {Methods} M
 */
export class Contract {
  /** @param {M} methods */
  constructor(methods) {
    /** @readonly */
    this.methods = methods;
    const numbers = Object.values(methods).map(({ number }) => number);
    if (new Set(numbers).size < numbers.length)
      throw new TypeError("two methods have the same number");
  }

  /**
   * An instance that understands them.
   *
   * @param {string} destination
   * @returns {{[N in keyof M]: (...args: ArgumentsOf<M[N]>) => Message}}
   */
  at(destination) {
    const entries = Object.entries(this.methods).map(([name, { number }]) => [
      name,
      (/** @type {unknown[]} */ ...args) => new Message(destination, number, args),
    ]);
    return Object.fromEntries(entries);
  }

  /** The program itself. */
  me() {
    return this.at("");
  }
}

/** A message that is made and not sent. */
export class Message {
  /**
   * @param {string} destination
   * @param {number} method
   * @param {unknown[]} args
   */
  constructor(destination, method, args) {
    this.destination = destination;
    this.method = method;
    this.payload = Buffer.from(stringify(args));
  }

  /**
   * Sends it; no answer is wanted. It arrives once, whatever dies.
   *
   * @param {import("./machine.js").Context} context
   */
  fork(context) {
    context.fork(this.destination, this.method, this.payload);
  }

  /**
   * Sends it, and goes on with `next` when its answer comes.
   *
   * @param {import("./machine.js").Context} context
   * @param {string} next the name of a handler of `Program.next`
   * @param {unknown} [kept] what that handler is given beside the answer
   * @returns {number} for `context.cancel`
   */
  call(context, next, kept) {
    return context.call(this.destination, this.method, this.payload, next, kept);
  }

  /**
   * Hands it in from outside of the handlers, on the primary.
   *
   * @param {import("./impulses.js").Impulses} impulses
   * @returns {Promise<import("./impulses.js").Fate>}
   */
  impulse(impulses) {
    return impulses.send(this.destination, this.method, this.payload);
  }
}

/**
 * @template S
 * @typedef {(state: S, context: import("./machine.js").Context, ...args: any[]) => unknown} AnyHandler
 */

/**
 * @template S
 * @typedef {(state: S, context: import("./machine.js").Context, outcome: import("./machine.js").Outcome, kept: any) => void} NextHandler
 */

/**
 * An effect: what touches the world and gives a result. Here, and only here, a clock, the network
 * and chance are allowed. `key` is the same when a new primary does it again: send it along, so
 * that the other side can recognize the repetition.
 *
 * @typedef {(argument: any, about: {key: string, signal: AbortSignal}) => Promise<unknown>} EffectHandler
 */

/**
 * A program that does not die: a state that is changed by its inputs and by nothing else.
 *
 * @template {object} S the state: plain objects, lists, Map, Set, Date, Uint8Array, `bigint`
 */
export class Program {
  /** @type {Map<number, {name: string, values: import("./values.js").Value<any>[], handler: AnyHandler<S>}>} */
  methods = new Map();
  /** @type {Map<string, NextHandler<S>>} */
  nexts = new Map();
  /** @type {Map<string, EffectHandler>} */
  performers = new Map();
  /** @type {(state: S, context: import("./machine.js").Context, args: any[]) => void} */
  started = () => {};
  /** @type {(state: S, impulses: import("./impulses.js").Impulses) => void} */
  becamePrimary = () => {};
  /** @type {(state: S) => void} */
  becameStandby = () => {};
  /** The version of the state and the code. */
  number = 0;
  /** @type {{to: Program<any>, convert: (state: S) => any} | undefined} */
  upgrade = undefined;

  /**
   * @param {string} name of the instance, unless the options of `run` say another
   * @param {() => S} fresh the state before the first input
   */
  constructor(name, fresh) {
    this.name = name;
    this.fresh = fresh;
  }

  /**
   * What it does with the messages of a contract. A handler changes the state, and gives the answer
   * back if there is one. It may throw `Refused`; any other error is a fault.
   *
   * @template {Methods} M
   * @param {Contract<M>} of
   * @param {{[N in keyof M]: (state: S, context: import("./machine.js").Context, ...args: ArgumentsOf<M[N]>) => unknown}} handlers
   * @returns {this}
   */
  handles(of, handlers) {
    for (const [name, { number, values }] of Object.entries(of.methods)) {
      const handler = handlers[name];
      if (typeof handler !== "function") throw new TypeError(`there is no handler for '${name}'`);
      const other = this.methods.get(number);
      if (other !== undefined)
        throw new TypeError(`'${name}' and '${other.name}' both have the number ${number}`);
      this.methods.set(number, { name, values, handler });
    }
    return this;
  }

  /**
   * What to go on with when an answer comes, a timer fires or an effect is done, by name. The name
   * and what is kept stand in the checkpoint.
   *
   * @param {Record<string, NextHandler<S>>} handlers
   * @returns {this}
   */
  next(handlers) {
    for (const [name, handler] of Object.entries(handlers)) this.nexts.set(name, handler);
    return this;
  }

  /**
   * What is done outside, by name.
   *
   * @param {Record<string, EffectHandler>} performers
   * @returns {this}
   */
  effects(performers) {
    for (const [name, performer] of Object.entries(performers))
      this.performers.set(name, performer);
    return this;
  }

  /**
   * The very first input of the instance, with the option `initial` of `run`.
   *
   * @param {(state: S, context: import("./machine.js").Context, args: any[]) => void} handler
   * @returns {this}
   */
  onStart(handler) {
    this.started = handler;
    return this;
  }

  /**
   * This copy is the primary now: what comes from outside is taken in from here on. The state can
   * be looked at, not changed: the other copies know nothing of this moment.
   *
   * @param {(state: S, impulses: import("./impulses.js").Impulses) => void} handler
   * @returns {this}
   */
  onPrimary(handler) {
    this.becamePrimary = handler;
    return this;
  }

  /**
   * This copy is not the primary any more.
   *
   * @param {(state: S) => void} handler
   * @returns {this}
   */
  onStandby(handler) {
    this.becameStandby = handler;
    return this;
  }

  /**
   * The version of the state and the code; 0 unless it is said.
   *
   * @param {number} number
   * @returns {this}
   */
  version(number) {
    this.number = number;
    return this;
  }

  /**
   * This program also has the code of another version: when the upgrade to it comes, as an input
   * among the others, `convert` makes the new state.
   *
   * @template {object} T
   * @param {Program<T>} to
   * @param {(state: S) => T} convert
   * @returns {this}
   */
  upgradesTo(to, convert) {
    if (to.number === this.number) throw new TypeError(`both programs are of version ${to.number}`);
    this.upgrade = { to, convert };
    return this;
  }
}

/**
 * @template {object} S
 * @param {string} name
 * @param {() => S} fresh
 * @returns {Program<S>}
 */
export function program(name, fresh) {
  return new Program(name, fresh);
}

/**
 * The arguments of a message, as its method wants them.
 *
 * @param {{name: string, values: import("./values.js").Value<any>[]}} of
 * @param {unknown} args
 */
export function readArguments({ name, values }, args) {
  if (!Array.isArray(args)) throw new Refused(`the arguments of '${name}' must stand in a list`);
  if (args.length > values.length) {
    throw new Refused(`'${name}' has ${values.length} arguments, and ${args.length} came`);
  }
  return values.map((value, at) => value.read(args[at], `argument ${at + 1} of '${name}'`));
}
