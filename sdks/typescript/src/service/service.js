/**
 * What a program has for a kind, and what it makes of a call. Without sockets.
 *
 * @module
 */

import { parse, stringify } from "../json.js";
import { checkedLink, checkedName } from "../names.js";
import { failed, refused, written } from "./frames.js";
import { main, run } from "./runner.js";

/** How many calls a copy takes at a time unless it is said. */
const CALLS_MAX_DEFAULT = 8;

const STATUSES = [400, 403, 404, 409];

/** Thrown by a handler that says no: nothing is written, and the client is told why. */
export class Refusal extends Error {
  /**
   * @param {string} message
   * @param {400 | 403 | 404 | 409} [status]
   */
  constructor(message, status = 409) {
    super(message);
    this.name = "Refusal";
    if (!STATUSES.includes(status))
      throw new TypeError(`a refusal has the status 400, 403, 404 or 409, not ${status}`);
    this.status = status;
  }
}

/** What a handler is told beside the states. */
export class Call {
  /** @type {import("./frames.js").Sent[]} */
  #messages;

  /**
   * @param {import("./frames.js").CallFrame} asked
   * @param {any} body
   * @param {import("./frames.js").Sent[]} messages
   */
  constructor(asked, body, messages) {
    /** The document. */
    this.link = asked.link;
    /** The version that is being made. */
    this.version = asked.version;
    /** Microseconds since 1970, by the clock of the document's owner. */
    this.timeMicros = asked.time;
    /** The link of the user on whose behalf it is; empty if it is not known who asks. */
    this.user = asked.user;
    /** What the client has sent with a PATCH or to an action. */
    this.body = body;
    this.#messages = messages;
  }

  get name() {
    return this.link.slice(this.link.lastIndexOf("/") + 1);
  }

  /** Milliseconds since 1970. */
  get timeMillis() {
    return this.timeMicros / 1_000;
  }

  /**
   * Sends a message to an immortal, such as `Ledger.at("ledger").pay(5)`. It is part of the version: it comes
   * to the immortal once if the version is written, and not at all if it is not.
   *
   * @param {import("../immortal/program.js").Message} message
   */
  fork({ destination, method, payload }) {
    this.#messages.push({ instance: checkedName(destination), method, payload });
  }
}

/**
 * @typedef {object} Own
 * @property {number} [callsMax] how many calls it takes at a time (8)
 * @property {Iterable<string>} [bigints] fields whose whole numbers are always a `bigint`
 */

/**
 * What the kind's definition says beside what the program has. `version` is that of the program, for
 * people, and if it is numbers ("2.1") also that of the definition, which does not go back.
 *
 * @typedef {Omit<import("../client.js").KindDefinition, "link" | "handlers" | "actions" | "version">
 *   & {version?: string} & Own} ServiceOptions
 */

/**
 * @template S
 * @template R
 * @typedef {S | void | R | Promise<S | void | R>} Made a state, or nothing: the one that was given, as the
 *   handler has changed it
 */

/**
 * @template {object} [S=any] what a document is
 */
export class Service {
  /** @type {Map<string, (...args: any[]) => unknown>} */
  #handlers = new Map();
  /** @type {Map<string, (...args: any[]) => unknown>} */
  #actions = new Map();
  #bigints;

  /**
   * @param {string} link
   * @param {ServiceOptions} [options]
   */
  constructor(link, { version = "", callsMax = CALLS_MAX_DEFAULT, bigints, ...more } = {}) {
    this.link = checkedLink(link);
    this.version = version;
    this.callsMax = callsMax;
    this.#bigints = bigints;
    this.more = more;
  }

  /**
   * A document is made.
   *
   * @param {(call: Call, created: S) => Made<S, never>} handler
   * @returns {this}
   */
  create(handler) {
    return this.#has("create", handler);
  }

  /**
   * A whole new state.
   *
   * @param {(call: Call, before: S, after: S) => Made<S, never>} handler
   * @returns {this}
   */
  put(handler) {
    return this.#has("put", handler);
  }

  /**
   * A change; `after` is the state with the change in it.
   *
   * @param {(call: Call, before: S, after: S) => Made<S, never>} handler
   * @returns {this}
   */
  patch(handler) {
    return this.#has("patch", handler);
  }

  /**
   * The document is about to be deleted.
   *
   * @param {(call: Call, before: S) => void | Promise<void>} handler
   * @returns {this}
   */
  delete(handler) {
    return this.#has("delete", handler);
  }

  /**
   * POST to `LINK/actions/NAME`; `body` is what the client has sent.
   *
   * @param {string} name
   * @param {(call: Call, state: S, body: any) => Made<S, never>} handler
   * @returns {this}
   */
  action(name, handler) {
    if (this.#actions.has(name)) throw new TypeError(`${this.link} has the action ${name} twice`);
    this.#actions.set(name, handler);
    return this;
  }

  /**
   * @param {string} name
   * @param {(...args: any[]) => unknown} handler
   * @returns {this}
   */
  #has(name, handler) {
    if (this.#handlers.has(name)) throw new TypeError(`${this.link} has two handlers of ${name}`);
    this.#handlers.set(name, handler);
    return this;
  }

  get handlers() {
    return /** @type {("create" | "put" | "patch" | "delete")[]} */ ([...this.#handlers.keys()]);
  }

  get actions() {
    return [...this.#actions.keys()];
  }

  /**
   * Defines the kind, with what this program does for it; or changes its definition. What else
   * somebody has said of the kind stays.
   *
   * @param {import("../client.js").Client} client
   */
  async define(client) {
    const { link, handlers, actions } = this;
    const isNumbers = /^[0-9]{1,9}(\.[0-9]{1,9}){0,3}$/.test(this.version);
    const version = isNumbers ? { version: this.version } : {};
    await client.kinds.ensure({ link, ...this.more, handlers, actions, ...version });
  }

  /**
   * Serves until `signal` says so.
   *
   * @param {import("./runner.js").RunOptions} [options]
   */
  run(options) {
    return run(this, options);
  }

  /** The whole main program: takes `--node`, defines the kind, and serves until SIGTERM or SIGINT. */
  main() {
    return main(this);
  }

  /**
   * The frame that answers a call.
   *
   * @param {import("./frames.js").CallFrame} asked
   * @returns {Promise<Buffer>}
   */
  async answer(asked) {
    const { number } = asked;
    try {
      return await this.#answered(asked);
    } catch (error) {
      if (error instanceof Refusal) return refused(number, error.status, error.message);
      console.error(error);
      return failed(number, String(error));
    }
  }

  /** @param {import("./frames.js").CallFrame} asked */
  async #answered(asked) {
    const { number, handler: name } = asked;
    const state = (/** @type {string} */ text) =>
      text === "" ? undefined : parse(text, { bigints: this.#bigints });
    const [before, after, body] = [state(asked.before), state(asked.after), state(asked.body)];
    /** @type {import("./frames.js").Sent[]} */
    const messages = [];
    const call = new Call(asked, body ?? {}, messages);
    const handler = name === "action" ? this.#actions.get(asked.action) : this.#handlers.get(name);
    if (handler === undefined) {
      // To write it as it is would pass by a rule that another version has.
      const what = name === "action" ? `action '${asked.action}'` : `handler of ${name}`;
      throw new Error(`this version of the program has no ${what}`);
    }
    const given = { create: [after], delete: [before], action: [before, body ?? {}] };
    const states = name === "put" || name === "patch" ? [before, after] : given[name];
    const made = await handler(call, ...states);
    if (name === "delete") return written(number, undefined, messages);
    const whole = made === undefined ? (name === "action" ? before : after) : made;
    if (typeof whole !== "object" || whole === null || Array.isArray(whole))
      throw new TypeError(`a handler gives a state or nothing, not ${typeof whole}`);
    return written(number, stringify(whole), messages);
  }
}

/**
 * @template {object} [S=any] what a document is
 * @param {string} link
 * @param {ServiceOptions} [options]
 * @returns {Service<S>}
 */
export function service(link, options) {
  return new Service(link, options);
}
