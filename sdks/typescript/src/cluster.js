/**
 * Asks the nodes of a cluster: one node, the next when that one does not answer, and a write again
 * under one `Idempotency-Key`, so that a repetition is not a second write. The same rules as in
 * `crates/client/src/client.rs`.
 *
 * @module
 */

import { makeWire, randomBytes } from "#wire";

import { AmritaError } from "./errors.js";
import { parse, stringify } from "./json.js";
import { isDoneEachTime, isWrite, prefixOf, takesKey } from "./keys.js";
import { WireError } from "./wire.js";

/** How long a request is tried unless the client is told otherwise. */
const PATIENCE_MILLIS = 15_000;

/** The pause after all nodes were tried once in vain; doubled with each further time. */
const PAUSE_MILLIS_MIN = 5;
const PAUSE_MILLIS_MAX = 200;

/**
 * How long one node may think about what may be repeated before the next one is asked: longer than a
 * node takes until it gives up a request, which is ten seconds.
 */
const ATTEMPT_MILLIS_MAX = 12_000;

/**
 * Of what is left of the patience one attempt takes this part at most, so that a node that accepts a
 * request and says nothing leaves time for the next one.
 */
const ATTEMPT_PART = 0.8;

/**
 * Errors of these kinds are told by the owner, which has looked for the key before. All other errors
 * may come from a node that knows nothing of what became of the key; a 404 may also mean that the
 * service was taken away meanwhile, and a 422 (the key is that of another request) that an earlier
 * attempt was done: a node salts a password anew for each.
 */
const BY_KEY = [400, 409, 412];

/**
 * Codes of answers that say "try again": the request was surely not carried out, or its key makes
 * it safe to repeat.
 */
const TRY_AGAIN = ["NO_OWNER", "NO_PROGRAM", "BUSY", "STOPPING", "TIMEOUT"];

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
    const attempts = new Attempts(request.repeat, options.patience ?? this.patience, this.nodes);
    for (let pause = PAUSE_MILLIS_MIN; ; pause = Math.min(pause * 2, PAUSE_MILLIS_MAX)) {
      const start = this.#preferred;
      for (let n = 0; n < this.nodes.length; n += 1) {
        const which = (start + n) % this.nodes.length;
        const until = attempts.until();
        try {
          const answer = await this.#askUntil(which, request, until, options);
          if (!isTryAgain(answer, attempts.isSafe)) {
            this.#preferred = which;
            return attempts.judged(answer);
          }
          attempts.noteAnswer(answer);
        } catch (error) {
          if (!(error instanceof OutOfTime || error instanceof WireError)) throw error;
          attempts.note(error, this.nodes[which].origin);
          if (error instanceof OutOfTime && until >= attempts.deadline) return attempts.inVain();
          if (error instanceof WireError && error.kind === "broken" && !attempts.isSafe)
            return attempts.inVain();
        }
      }
      if (Date.now() + pause >= attempts.deadline) return attempts.inVain();
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
    const text = body === undefined ? undefined : stringify(body);
    if (text !== undefined) {
      headers["content-type"] = options.mergePatch
        ? "application/merge-patch+json"
        : "application/json";
    }
    const repeat = this.#repeat(method, path, key !== undefined, hasKey);
    return { method, target: escapePath(path), headers, body: text, repeat };
  }

  /**
   * Why, if at all, a request may be sent once more after an attempt that may have been done.
   *
   * @param {string} method
   * @param {string} path
   * @param {boolean} hasKey
   * @param {boolean} takesOne
   * @returns {Repeat}
   */
  #repeat(method, path, hasKey, takesOne) {
    if (!isWrite(method)) return "read";
    if (hasKey) return "byKey";
    const isSameTwice = !takesOne && this.#keyPrefix !== undefined;
    return isSameTwice && !isDoneEachTime(method, path) ? "sameTwice" : "never";
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
    const late = new OutOfTime();
    const timer = setTimeout(() => abort.abort(late), Math.max(deadline - Date.now(), 0));
    const onSent = () => {
      late.isSent = true;
    };
    const given = () => abort.abort(signal?.reason);
    signal?.addEventListener("abort", given, { once: true });
    try {
      const node = this.nodes[which];
      const told = await this.#wire.ask(node, { ...request, onSent, signal: abort.signal });
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

/** An attempt took too long. */
class OutOfTime extends Error {
  /** Whether the node may have got the request. */
  isSent = false;
}

/**
 * Why a request may be sent once more after an attempt that may have been done: a `read` changes
 * nothing; under its key a write is one, however often it is sent (`byKey`); in some places to ask
 * for the same twice is to have it once (`sameTwice`), and there a later answer does not tell what
 * became of an earlier attempt.
 *
 * @typedef {"read" | "byKey" | "sameTwice" | "never"} Repeat
 */

/** How the attempts at one request went so far. */
class Attempts {
  /**
   * @param {Repeat} repeat
   * @param {number} patience
   * @param {URL[]} nodes
   */
  constructor(repeat, patience, nodes) {
    this.repeat = repeat;
    this.deadline = Date.now() + patience;
    this.tried = nodes.map((node) => node.origin).join(", ");
    /** @type {Answer | undefined} the last that said "try again" */
    this.answer = undefined;
    this.why = "";
    /** An attempt broke off, and the write may have been done. */
    this.isInDoubt = false;
    this.isLate = false;
  }

  get isSafe() {
    return this.repeat !== "never";
  }

  get #isWriting() {
    return this.repeat !== "read";
  }

  /** When the next attempt is given up. */
  until() {
    if (!this.isSafe) return this.deadline;
    const left = this.deadline - Date.now();
    const part = Math.min(left * ATTEMPT_PART, ATTEMPT_MILLIS_MAX);
    // With so little left there is no other attempt.
    return left - part < PAUSE_MILLIS_MIN ? this.deadline : Date.now() + part;
  }

  /** @param {Answer} answer */
  noteAnswer(answer) {
    this.answer = answer;
    if (answer.body?.outcome === "unknown") this.isInDoubt = this.#isWriting;
  }

  /**
   * @param {WireError | OutOfTime} error
   * @param {string} node
   */
  note(error, node) {
    this.isLate = error instanceof OutOfTime;
    this.why = error instanceof OutOfTime ? `${node} gave no answer in time` : error.message;
    const mayBeDone = error instanceof OutOfTime ? error.isSent : error.kind === "broken";
    if (mayBeDone) this.isInDoubt = this.#isWriting;
  }

  /** A node's own words are better than ours. */
  inVain() {
    if (this.answer !== undefined) return this.judged(this.answer);
    const unknown = this.isInDoubt ? "; the write may have happened" : "";
    throw new AmritaError(`no node answers at ${this.tried}: ${this.why}${unknown}`, {
      code: this.isLate ? "OUT_OF_TIME" : "UNREACHABLE",
      outcome: this.#outcome(),
    });
  }

  /**
   * An answer, or the error that it tells of. One node's "surely not" is not the whole truth while
   * another attempt may have been done, unless the answer speaks for the key.
   *
   * @param {Answer} answer
   */
  judged(answer) {
    if (!isError(answer)) return answer;
    const error = errorOf(answer);
    const isSettled = this.repeat === "byKey" && BY_KEY.includes(answer.status);
    if (this.isInDoubt && !isSettled) {
      error.message += "; an attempt before broke off, and the write may have happened";
      error.outcome = "unknown";
    } else if (this.#isWriting && error.outcome === undefined) {
      // Not the words of a node: of something in between.
      error.outcome = "unknown";
    }
    throw error;
  }

  /** @returns {import("./errors.js").Outcome} */
  #outcome() {
    if (!this.#isWriting) return undefined;
    return this.isInDoubt ? "unknown" : "notApplied";
  }
}

/**
 * Nodes send nobody elsewhere, and with their headers nobody is followed elsewhere: a redirect is
 * an error.
 *
 * @param {Answer} answer
 */
export function isError({ status }) {
  return status >= 300 && status !== 304;
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
  // Before an '@' there may be a password, which must not come into an error or a log.
  const shown = text.replace(/^.*@/s, "...@");
  const withScheme = text.includes("://") ? text : `http://${text}`;
  let address;
  try {
    address = new URL(withScheme);
  } catch {
    throw new TypeError(`'${shown}' is no address of a node, such as http://127.0.0.1:8001`);
  }
  const isPlain = address.pathname === "/" && address.search === "" && address.hash === "";
  if (!["http:", "https:"].includes(address.protocol) || !isPlain || text.includes("@")) {
    throw new TypeError(`'${shown}' is no address of a node, such as http://127.0.0.1:8001`);
  }
  return address;
}

/**
 * A path as it stands on the wire: what may not stand there is escaped. A query is left as it is.
 *
 * @param {string} pathAndQuery
 */
export function escapePath(pathAndQuery) {
  // Without it the path would become a part of the host.
  if (!pathAndQuery.startsWith("/"))
    throw new TypeError(`a path begins with '/', and '${pathAndQuery}' does not`);
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
