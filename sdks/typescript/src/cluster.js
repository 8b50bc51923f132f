/**
 * Asks the nodes of a cluster: one node, the next when that one does not answer, and a write again
 * under one `Idempotency-Key`, so that a repetition is not a second write. The same rules as in
 * `crates/client/src/client.rs`.
 *
 * @module
 */

import { makeWire, randomBytes } from "#wire";

import { AmritaError } from "./errors.js";
import { parse, stringifyForNode } from "./json.js";
import { isWrite, prefixOf, takesKey } from "./keys.js";
import { WireError } from "./wire.js";

/** How long a request is tried unless the client is told otherwise. */
const PATIENCE_MILLIS = 15_000;

/** The pause after all nodes were tried once in vain; doubled with each further time. */
const PAUSE_MILLIS_MIN = 5;
const PAUSE_MILLIS_MAX = 200;

/**
 * Codes of answers that say "try again": the request was surely not carried out, or its key makes
 * it safe to repeat.
 */
const TRY_AGAIN = ["NO_OWNER", "BUSY", "STOPPING", "TIMEOUT"];

/**
 * @typedef {object} ClientOptions
 * @property {string} [token] shown with each request; see `Client.login`
 * @property {number} [patience] milliseconds that a request is tried for, all repetitions together (15000)
 * @property {boolean} [keys] `false` sends no keys, and so repeats a write only if it was surely not carried out
 * @property {string} [ca] certificates in PEM that are believed (Node only)
 */

/**
 * @typedef {object} RequestOptions
 * @property {string} [ifMatch] an ETag, or `*`
 * @property {string} [ifNoneMatch] an ETag, or `*`
 * @property {string} [key] an `Idempotency-Key` of your own
 * @property {number | "all"} [quorum] how many replicas must hold a write before it is acknowledged
 * @property {string} [pragma]
 * @property {boolean} [mergePatch] the body of a PATCH is a JSON merge patch
 * @property {number} [patience] milliseconds, in place of the client's
 * @property {AbortSignal} [signal]
 * @property {Iterable<string>} [bigints] fields whose whole numbers are always a `bigint`
 */

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {any} body what the JSON says; undefined when the body is empty
 * @property {string | undefined} etag
 * @property {string | undefined} location
 * @property {string} node the address of the node that has answered
 */

export class Cluster {
  /** @type {string | undefined} */
  #authorization;
  #preferred = 0;
  #keyNumber = 0;
  #keyPrefix;
  #wire;

  /**
   * @param {string | string[]} addresses `http://host:port`, several in a list or behind commas
   * @param {ClientOptions} options
   */
  constructor(addresses, options) {
    const list = Array.isArray(addresses) ? addresses : addresses.split(",");
    /** @type {URL[]} */
    this.nodes = list.map((address) => parseAddress(address.trim()));
    if (this.nodes.length === 0) throw new TypeError("the address of at least one node is needed");
    this.#wire = makeWire({ ca: options.ca });
    /** Milliseconds that a request is tried for. */
    this.patience = options.patience ?? PATIENCE_MILLIS;
    this.#keyPrefix = options.keys === false ? undefined : prefixOf(randomBytes(16));
    this.setToken(options.token);
  }

  /** @param {string | undefined} token */
  setToken(token) {
    this.#authorization = token === undefined ? undefined : `Bearer ${token}`;
  }

  /** The number of the node that answered last. */
  get preferred() {
    return this.#preferred;
  }

  close() {
    this.#wire.close();
  }

  /** A key that no other write has. */
  nextKey() {
    if (this.#keyPrefix === undefined) return undefined;
    this.#keyNumber += 1;
    return `${this.#keyPrefix}-${this.#keyNumber}`;
  }

  /**
   * Asks until a node has answered with anything but "try again".
   *
   * @param {string} method
   * @param {string} path with its query
   * @param {unknown} body
   * @param {RequestOptions & {authorization?: string}} options
   * @returns {Promise<Answer>}
   */
  async send(method, path, body, options) {
    const request = this.#prepare(method, path, body, options);
    const { isSafe } = request;
    const deadline = Date.now() + (options.patience ?? this.patience);
    const attempts = new Attempts(isWrite(method), this.nodes);
    for (let pause = PAUSE_MILLIS_MIN; ; pause = Math.min(pause * 2, PAUSE_MILLIS_MAX)) {
      const start = this.#preferred;
      for (let n = 0; n < this.nodes.length; n += 1) {
        const which = (start + n) % this.nodes.length;
        try {
          const answer = await this.#askUntil(which, request, deadline, options);
          if (!isTryAgain(answer, isSafe)) {
            this.#preferred = which;
            return finish(answer);
          }
          attempts.answer = answer;
        } catch (error) {
          if (error instanceof OutOfTime) return attempts.outOfTime();
          if (!(error instanceof WireError)) throw error;
          attempts.note(error);
          if (error.kind === "broken" && !isSafe) return attempts.inVain();
        }
      }
      if (Date.now() + pause >= deadline) return attempts.inVain();
      await sleep(pause, options.signal);
    }
  }

  /**
   * Asks one node, once. An answer that tells of an error is given back, too.
   *
   * @param {number} which
   * @param {string} path
   * @param {number} millis
   * @param {RequestOptions} options
   */
  getFrom(which, path, millis, options) {
    const request = this.#prepare("GET", path, undefined, options);
    return this.#askUntil(which, request, Date.now() + millis, options);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} body
   * @param {RequestOptions & {authorization?: string}} options
   */
  #prepare(method, path, body, options) {
    /** @type {Record<string, string>} */
    const headers = {};
    const hasKey = takesKey(method, path, body);
    const key = options.key ?? (hasKey ? this.nextKey() : undefined);
    const authorization = options.authorization ?? this.#authorization;
    if (authorization !== undefined) headers.authorization = authorization;
    if (key !== undefined) headers["idempotency-key"] = key;
    if (options.ifMatch !== undefined) headers["if-match"] = options.ifMatch;
    if (options.ifNoneMatch !== undefined) headers["if-none-match"] = options.ifNoneMatch;
    if (options.pragma !== undefined) headers.pragma = options.pragma;
    if (options.quorum !== undefined) {
      headers["x-xenon-rpl-quorum"] =
        options.quorum === "all" ? "x-xenon-all" : String(options.quorum);
    }
    const text = body === undefined ? undefined : stringifyForNode(body);
    if (text !== undefined) {
      headers["content-type"] = options.mergePatch
        ? "application/merge-patch+json"
        : "application/json";
    }
    const isSameTwice = !hasKey && this.#keyPrefix !== undefined;
    const isSafe = !isWrite(method) || key !== undefined || isSameTwice;
    return { method, target: escapePath(path), headers, body: text, isSafe };
  }

  /**
   * @param {number} which
   * @param {{method: string, target: string, headers: Record<string, string>, body: string | undefined}} request
   * @param {number} deadline
   * @param {RequestOptions} options
   * @returns {Promise<Answer>}
   */
  async #askUntil(which, request, deadline, options) {
    const { signal } = options;
    signal?.throwIfAborted();
    const abort = new AbortController();
    const timer = setTimeout(
      () => abort.abort(new OutOfTime()),
      Math.max(deadline - Date.now(), 0),
    );
    const given = () => abort.abort(signal?.reason);
    signal?.addEventListener("abort", given, { once: true });
    try {
      const node = this.nodes[which];
      const told = await this.#wire.ask(node, { ...request, signal: abort.signal });
      return {
        status: told.status,
        body: told.body === "" ? undefined : readBody(told, options.bigints),
        etag: told.header("etag"),
        location: told.header("location"),
        node: node.origin,
      };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", given);
    }
  }
}

/** The patience is over. */
class OutOfTime extends Error {}

/** How the attempts at one request went so far. */
class Attempts {
  /**
   * @param {boolean} isWriting
   * @param {URL[]} nodes
   */
  constructor(isWriting, nodes) {
    this.isWriting = isWriting;
    this.tried = nodes.map((node) => node.origin).join(", ");
    /** @type {Answer | undefined} the last that said "try again" */
    this.answer = undefined;
    this.why = "";
    this.isUnknown = false;
  }

  /** @param {WireError} error */
  note(error) {
    this.why = error.message;
    if (error.kind === "broken") this.isUnknown = this.isWriting;
  }

  /** A node's own words are better than ours. */
  inVain() {
    if (this.answer !== undefined) return finish(this.answer);
    const unknown = this.isUnknown ? "; the write may have happened" : "";
    throw new AmritaError(`no node answers at ${this.tried}: ${this.why}${unknown}`, {
      code: "UNREACHABLE",
      outcome: this.#outcome(this.isUnknown),
    });
  }

  outOfTime() {
    if (this.answer !== undefined) return finish(this.answer);
    const unknown = this.isWriting ? "; the write may have happened" : "";
    throw new AmritaError(`no answer in time from ${this.tried}${unknown}`, {
      code: "OUT_OF_TIME",
      outcome: this.#outcome(true),
    });
  }

  /**
   * @param {boolean} isUnknown
   * @returns {import("./errors.js").Outcome}
   */
  #outcome(isUnknown) {
    if (!this.isWriting) return undefined;
    return isUnknown ? "unknown" : "notApplied";
  }
}

/**
 * An answer, or the error that it tells of.
 *
 * @param {Answer} answer
 */
export function finish(answer) {
  if (answer.status < 400) return answer;
  throw errorOf(answer);
}

/** @param {Answer} answer */
export function errorOf({ status, body, node }) {
  const message =
    typeof body?.message === "string" ? body.message : `${node} answers with ${status}`;
  const code = typeof body?.code === "string" ? body.code : `HTTP_${status}`;
  return new AmritaError(message, {
    code,
    status,
    outcome: body?.outcome,
    details: body?.details,
    body,
  });
}

/**
 * Whether the node asks for the same request again.
 *
 * @param {Answer} answer
 * @param {boolean} isSafe a repetition does no harm
 */
function isTryAgain({ status, body }, isSafe) {
  if (status !== 503 && status !== 504) return false;
  return TRY_AGAIN.includes(body?.code) && (isSafe || body?.outcome === "notApplied");
}

/**
 * @param {import("./wire.js").WireAnswer} told
 * @param {Iterable<string> | undefined} bigints
 */
function readBody(told, bigints) {
  const isJson = told.header("content-type")?.includes("json") ?? false;
  if (!isJson) return told.body;
  try {
    return parse(told.body, { bigints });
  } catch (error) {
    throw new WireError("broken", `an answer is not JSON: ${String(error)}`);
  }
}

/** @param {string} text */
function parseAddress(text) {
  const withScheme = text.includes("://") ? text : `http://${text}`;
  let address;
  try {
    address = new URL(withScheme);
  } catch {
    throw new TypeError(`'${text}' is no address of a node, such as http://127.0.0.1:8001`);
  }
  const isPlain = address.pathname === "/" && address.search === "" && address.hash === "";
  if (!["http:", "https:"].includes(address.protocol) || !isPlain || address.username !== "") {
    throw new TypeError(`'${text}' is no address of a node, such as http://127.0.0.1:8001`);
  }
  return address;
}

/**
 * A path as it stands on the wire: what may not stand there is escaped. A query is left as it is.
 *
 * @param {string} pathAndQuery
 */
export function escapePath(pathAndQuery) {
  const at = pathAndQuery.indexOf("?");
  const path = at < 0 ? pathAndQuery : pathAndQuery.slice(0, at);
  const bytes = new TextEncoder().encode(path);
  let escaped = "";
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    const isPlain = byte > 0x20 && byte < 0x7f && !'%?#"<>\\^`{|}'.includes(letter);
    escaped += isPlain ? letter : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return at < 0 ? escaped : escaped + pathAndQuery.slice(at);
}

/**
 * @param {number} millis
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(millis, signal) {
  return new Promise((resolve, reject) => {
    const given = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", given);
      resolve();
    }, millis);
    if (signal?.aborted) given();
    signal?.addEventListener("abort", given, { once: true });
  });
}
