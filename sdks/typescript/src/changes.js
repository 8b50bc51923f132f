/**
 * Changes as they happen: an async iterator that goes on at another node with its token.
 *
 * @module
 */

import { errorOf, isError, sleep } from "./cluster.js";
import { AmritaError, FellBehindError } from "./errors.js";
import { WireError } from "./wire.js";

/** How long one question waits at a node; then the next one is asked. */
const WAIT_SECONDS = 20;

/** A node that says nothing for this much longer than it was asked to wait is taken for dead. */
const LATE_MILLIS_MAX = 5_000;

/** For how long all nodes may be away before the reader is told. Its token stays good. */
const AWAY_MILLIS_MAX = 60_000;

const PAUSE_MILLIS_MIN = 10;
const PAUSE_MILLIS_MAX = 500;

/**
 * @template T
 * @typedef {object} Change
 * @property {string} link
 * @property {number} version
 * @property {"POST" | "PUT" | "PATCH" | "DELETE" | "EXPIRE"} action
 * @property {boolean} isMatch whether the document, as it is now, is one of those that are watched
 * @property {import("./documents.js").Document<T>} document
 * @property {import("./documents.js").Document<T>} [before] the version before, if it was asked for
 * @property {string} token goes on behind this change
 */

/**
 * @typedef {object} ChangesOptions
 * @property {string} [after] a token: what happened since. Without it, what happens from now on
 * @property {string} [filter] only documents that meet it, such as `price gt 10`
 * @property {string} [prefix] of `client.changes()`: only documents whose links begin so
 * @property {boolean} [before] shows the version before as well
 * @property {AbortSignal} [signal] ends the reader; the iteration then ends without an error
 * @property {number} [away] milliseconds that all nodes may be away before it is an error (60000)
 * @property {Iterable<string>} [bigints] fields whose whole numbers are always a `bigint`
 */

/**
 * A reader of changes. It may be iterated once; `token` says where it stands, so that another
 * reader, in another process and at another node, can go on there.
 *
 * @template T
 * @implements {AsyncIterable<Change<T>>}
 */
export class Changes {
  #cluster;
  #path;
  #options;
  #which;

  /**
   * @param {import("./cluster.js").Cluster} cluster
   * @param {string} path
   * @param {ChangesOptions} options
   */
  constructor(cluster, path, options) {
    this.#cluster = cluster;
    this.#path = path;
    this.#options = options;
    this.#which = cluster.preferred;
    /**
     * Where this reader stands: behind the last change that it has given.
     *
     * @type {string | undefined}
     */
    this.token = options.after;
  }

  /**
   * Takes the token from which this reader begins, if it has none. What is written after this
   * has returned will be told. Read documents after it, then iterate: so you know everything.
   *
   * @returns {Promise<string>}
   */
  async begin() {
    if (this.token === undefined) {
      const { token } = await this.#ask();
      this.token = token;
    }
    return this.token ?? "";
  }

  /** @returns {AsyncGenerator<Change<T>, void, void>} */
  async *[Symbol.asyncIterator]() {
    const { signal } = this.#options;
    try {
      await this.begin();
      while (!signal?.aborted) {
        const { changes, token } = await this.#ask();
        for (const change of changes) {
          this.token = change.token;
          yield change;
        }
        this.token = token;
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
  }

  /**
   * One answer, from whichever node gives one.
   *
   * @returns {Promise<{changes: Change<T>[], token: string}>}
   */
  async #ask() {
    const { signal, bigints, away = AWAY_MILLIS_MAX } = this.#options;
    const path = this.#question();
    const nodes = this.#cluster.nodes.length;
    const giveUpAt = Date.now() + away;
    let why = "";
    for (let pause = PAUSE_MILLIS_MIN; ; pause = Math.min(pause * 2, PAUSE_MILLIS_MAX)) {
      let gone = 0;
      for (let n = 0; n < nodes; n += 1) {
        const millis = WAIT_SECONDS * 1_000 + LATE_MILLIS_MAX;
        try {
          const answer = await this.#cluster.getFrom(this.#which, path, millis, {
            signal,
            bigints,
          });
          if (!isError(answer)) return pageOf(answer);
          const error = errorOf(answer);
          if (error.code === "CHANGES_GONE") gone += 1;
          else if (answer.status < 500) throw error;
          why = error.message;
        } catch (error) {
          if (signal?.aborted || error instanceof AmritaError) throw error;
          why = messageOf(error);
        }
        this.#which = (this.#which + 1) % nodes;
      }
      if (gone === nodes || (gone > 0 && Date.now() >= giveUpAt)) {
        throw new FellBehindError(
          `no node keeps the changes after the token: ${why}`,
          this.token ?? "",
        );
      }
      if (Date.now() >= giveUpAt) {
        const outcome = { code: "UNREACHABLE" };
        throw new AmritaError(`no node tells changes of ${this.#path}: ${why}`, outcome);
      }
      await sleep(pause, signal);
    }
  }

  #question() {
    const { filter, prefix, before } = this.#options;
    const parameters = this.#path === "/core/changes" ? [] : ["watch=true"];
    if (filter !== undefined) parameters.push(`$filter=${encodeURIComponent(filter)}`);
    if (prefix !== undefined) parameters.push(`prefix=${encodeURIComponent(prefix)}`);
    if (before) parameters.push("before=true");
    if (this.token !== undefined) {
      parameters.push(`after=${encodeURIComponent(this.token)}`, `wait=${WAIT_SECONDS}`);
    }
    return parameters.length === 0 ? this.#path : `${this.#path}?${parameters.join("&")}`;
  }
}

/** @param {import("./cluster.js").Answer} answer */
function pageOf({ body, node }) {
  if (Array.isArray(body?.changes) && typeof body.token === "string") return body;
  throw new WireError("broken", `${node} gives no changes and no token: is it a node?`);
}

/** @param {unknown} error */
function messageOf(error) {
  if (error instanceof WireError || error instanceof Error)
    return error.message || "no answer in time";
  return String(error);
}
