/**
 * A client of a cluster.
 *
 * @module
 */

import { Changes } from "./changes.js";
import { Cluster, sleep } from "./cluster.js";
import { Kind, etagOf, pages } from "./documents.js";
import { AmritaError } from "./errors.js";
import { Decimal, stringify } from "./json.js";
import { checkedName } from "./names.js";
import { bodyOf } from "./query.js";
import { Task } from "./tasks.js";

/** Where a node is looked for when none is named: where `amrita` looks, too. */
const ADDRESSES_DEFAULT = [8001, 8002, 8003, 8000].map((port) => `http://127.0.0.1:${port}`);

/** The pause before an impulse is tried again for which no program was there. */
const REFUSED_PAUSE_MILLIS = 50;

/**
 * What defines a kind of documents; see "Kinds of your own" in the reference. In `ensure` and
 * `change`, null takes a field away.
 *
 * @typedef {object} KindDefinition
 * @property {string} link of the factory: any path but those under `/core`
 * @property {object | null} [schema] a JSON Schema
 * @property {string} [kind]
 * @property {string | null} [version] numbers ("2.1") of the program that defines it: an older one
 *   changes nothing from then on, and is refused with `OLDER_DEFINITION`
 * @property {string[] | null} [merge]
 * @property {("IDEMPOTENT_POST" | "STRICT_UPDATE_CHECKING" | "IMMUTABLE")[] | null} [options]
 * @property {number | null} [retentionLimit]
 * @property {number | null} [retentionFloor]
 * @property {number | null} [expiresAfterSeconds]
 * @property {("create" | "put" | "patch" | "delete")[] | null} [handlers] what a program outside does
 * @property {string[] | null} [actions] names of what it does beside that
 * @property {string | null} [documentation]
 */

/**
 * One write of a batch.
 *
 * @typedef {object} BatchRequest
 * @property {"POST" | "PUT" | "PATCH" | "DELETE"} method
 * @property {string} path of the document, or of the factory for a POST
 * @property {object} [body]
 * @property {string} [ifMatch] an entity tag, as `etagOf` makes it
 * @property {string} [ifNoneMatch]
 * @property {string} [idempotencyKey] of this write alone
 * @property {"application/json" | "application/merge-patch+json"} [contentType]
 * @property {string} [pragma]
 */

/**
 * @typedef {object} BatchOutcome
 * @property {number} status
 * @property {"applied" | "notApplied" | "unknown"} outcome
 * @property {any} [body] the document
 * @property {{code: string, message: string}} [error]
 */

/**
 * @typedef {object} BatchAnswer
 * @property {"applied" | "mixed"} outcome `mixed`: see `requests` for what was done
 * @property {BatchOutcome[]} requests in the order of the writes
 */

/** Shared by a whole program: it holds connections, and the key of each write. */
export class Client {
  #cluster;

  /**
   * @param {string | string[]} [addresses] of the nodes, `http://host:port`, in a list or behind
   *   commas; the first is asked first. Without any the ports 8001, 8002, 8003 and 8000 of this machine
   * @param {import("./cluster.js").ClientOptions} [options]
   */
  constructor(addresses = ADDRESSES_DEFAULT, options = {}) {
    this.#cluster = new Cluster(addresses, options);
    /** Kinds of documents of your own, defined while the cluster runs. */
    this.kinds = new Kinds(this.#cluster);
  }

  /** @returns {string[]} */
  get addresses() {
    return this.#cluster.nodes.map((node) => node.origin);
  }

  /** Ends the connections that are idle. */
  close() {
    this.#cluster.close();
  }

  /**
   * Any request, for what has no method of its own.
   *
   * @param {"GET" | "POST" | "PUT" | "PATCH" | "DELETE"} method
   * @param {string} path with its query
   * @param {unknown} [body]
   * @param {import("./cluster.js").RequestOptions} [options]
   * @returns {Promise<import("./cluster.js").Answer>}
   */
  request(method, path, body, options = {}) {
    return this.#cluster.send(method, path, body, options);
  }

  /**
   * The documents of a factory.
   *
   * @template {object} T what the documents are
   * @param {string} link such as `/app/seats` or `/core/examples`
   * @param {{bigints?: Iterable<string>}} [options] `bigints`: fields whose whole numbers are always
   *   a `bigint`; of other fields only those that a `number` would not hold exactly
   * @returns {Kind<T>}
   */
  kind(link, options = {}) {
    return new Kind(this.#cluster, link, options);
  }

  /**
   * Makes many writes in one request; those of one partition all or none (documents with one key in
   * braces, as `/app/orders/{42}/a`, lie in one). When none was done, an error is thrown. With the
   * same `key` it can be called again, and what was done is not done twice.
   *
   * @param {BatchRequest[]} requests
   * @param {import("./cluster.js").RequestOptions & {atomic?: "partition" | "all"}} [options]
   * @returns {Promise<BatchAnswer>}
   */
  async batch(requests, { atomic = "partition", ...options } = {}) {
    const body = { requests, atomic };
    return (await this.#cluster.send("POST", "/core/batch", body, options)).body;
  }

  /**
   * The documents that a query finds, of all kinds; pages are asked for as they are wanted.
   *
   * @template T
   * @param {object} query as `where({...})` makes it
   * @param {import("./query.js").QueryOptions} [options]
   * @returns {AsyncGenerator<import("./documents.js").Document<T>, void, void>}
   */
  async *query(query, options = {}) {
    const { signal, bigints } = options;
    const body = bodyOf(query, options, false);
    const first = await this.#cluster.send("POST", "/core/query-tasks", body, { signal, bigints });
    yield* pages(this.#cluster, first.body, { signal, bigints });
  }

  /**
   * How many documents a query finds.
   *
   * @param {object} query
   * @param {import("./query.js").QueryOptions} [options]
   * @returns {Promise<number>}
   */
  async count(query, options = {}) {
    const body = bodyOf(query, options, true);
    const { signal } = options;
    const answer = await this.#cluster.send("POST", "/core/query-tasks", body, { signal });
    return answer.body.results.documentCount;
  }

  /**
   * Each committed change of all documents, once and in order, as it happens.
   *
   * @param {import("./changes.js").ChangesOptions} [options]
   * @returns {Changes<any>}
   */
  changes(options = {}) {
    return new Changes(this.#cluster, "/core/changes", options);
  }

  /**
   * Starts a task. To wait for its end: `await (await client.startTask(...)).wait()`.
   *
   * @template {object} T
   * @param {string} factory such as `/core/example-tasks`
   * @param {Partial<T> & {documentSelfLink?: string}} [body]
   * @param {import("./cluster.js").RequestOptions} [options]
   * @returns {Promise<Task<T>>}
   */
  async startTask(factory, body, options = {}) {
    const answer = await this.#cluster.send("POST", factory, body ?? {}, options);
    return new Task(this.#cluster, answer.body.documentSelfLink);
  }

  /**
   * A task that is there already.
   *
   * @template {object} T
   * @param {string} link
   * @returns {Task<T>}
   */
  task(link) {
    return new Task(this.#cluster, link);
  }

  /**
   * Puts an impulse from outside into the log of an immortal. When this returns, it will be handled
   * exactly once, whatever dies. While none of its programs is there, it is tried again for as long
   * as the patience lasts.
   *
   * @param {string} name of the instance
   * @param {number} method
   * @param {unknown[]} [args]
   * @param {{from?: string, key?: string, patience?: number, signal?: AbortSignal}} [options] `from`: who sends it
   * @returns {Promise<number>} the number of the input
   */
  async impulse(name, method, args = [], { from, ...options } = {}) {
    const body = { method, payload: args, ...(from === undefined ? {} : { from }) };
    // One key for all attempts.
    const asked = { ...options, key: options.key ?? this.#cluster.nextKey() };
    const deadline = Date.now() + (options.patience ?? this.#cluster.patience);
    for (;;) {
      try {
        const answer = await this.#cluster.send(
          "POST",
          `/core/immortals/${checkedName(name)}/impulses`,
          body,
          asked,
        );
        return answer.body.input;
      } catch (error) {
        const isRefused =
          error instanceof AmritaError && error.code === "REFUSED" && error.outcome === "notApplied";
        if (!isRefused || Date.now() >= deadline || (await this.#isHeld(name))) throw error;
        await sleep(REFUSED_PAUSE_MILLIS, options.signal);
      }
    }
  }

  /**
   * Whether a program of an instance was stopped until a person has looked.
   *
   * @param {string} name
   */
  async #isHeld(name) {
    const { replicas } = await this.immortal(name);
    return replicas.some((/** @type {any} */ { role }) => role === "HELD" || role === "DIVERGED");
  }

  /**
   * Registers an immortal. The same registration again changes nothing.
   *
   * @param {string} name
   * @param {{replicas?: number | string[], [option: string]: unknown}} [options]
   */
  async registerImmortal(name, options = {}) {
    const answer = await this.#cluster.send("POST", "/core/immortals", { name, ...options }, {});
    return answer.body;
  }

  /**
   * An instance, as its owner knows it.
   *
   * @param {string} name
   * @returns {Promise<any>}
   */
  async immortal(name) {
    const path = `/core/immortals/${checkedName(name)}`;
    return (await this.#cluster.send("GET", path, undefined, {})).body;
  }

  /**
   * Logs in; the token goes with each request from here on.
   *
   * @param {string} user
   * @param {string} password
   * @param {{expiresAfterSeconds?: number}} [options]
   * @returns {Promise<string>} the token
   */
  async login(user, password, options = {}) {
    const bytes = new TextEncoder().encode(`${user}:${password}`);
    const authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
    const body = { requestType: "LOGIN", sessionExpirationSeconds: options.expiresAfterSeconds };
    const answer = await this.#cluster.send("POST", "/core/authn/basic", body, { authorization });
    const token = answer.body?.token ?? answer.body?.authToken;
    if (typeof token !== "string") {
      throw new AmritaError("the node has given no token", { code: "NO_TOKEN", body: answer.body });
    }
    this.#cluster.setToken(token);
    return token;
  }

  /** Makes the token worthless on all nodes, and forgets it. */
  async logout() {
    await this.#cluster.send("POST", "/core/authn/basic", { requestType: "LOGOUT" }, {});
    this.#cluster.setToken(undefined);
  }
}

/** The definitions of kinds. */
export class Kinds {
  #cluster;

  /** @param {Cluster} cluster */
  constructor(cluster) {
    this.#cluster = cluster;
  }

  /**
   * Defines a kind. When this has returned, its factory is there at every node.
   *
   * @template {object} T
   * @param {KindDefinition} definition
   * @param {{bigints?: Iterable<string>}} [options]
   * @returns {Promise<Kind<T>>}
   */
  async create(definition, options = {}) {
    await this.#cluster.send("POST", "/core/factories", definition, {});
    return new Kind(this.#cluster, definition.link, options);
  }

  /**
   * Defines a kind, or changes what is named here of the one that is there (or was removed): for the
   * start of a program. What is not named stays as it is, since somebody else may have said it, such
   * as the program that has the kind's handlers; null takes a field away.
   *
   * @template {object} T
   * @param {KindDefinition} definition
   * @param {{bigints?: Iterable<string>}} [options]
   * @returns {Promise<Kind<T>>}
   */
  async ensure(definition, options = {}) {
    const fields = Object.entries(definition).filter(([, value]) => value !== null);
    const whole = /** @type {KindDefinition} */ (Object.fromEntries(fields));
    try {
      return await this.create(whole, options);
    } catch (error) {
      const code = error instanceof AmritaError ? error.code : "";
      if (code === "MARKED_DELETED") {
        const pragma = "xn-force-index-update";
        await this.#cluster.send("POST", "/core/factories", whole, { pragma });
      } else if (code === "ALREADY_EXISTS") {
        while (!(await this.#bringTo(definition)));
      } else {
        throw error;
      }
      return new Kind(this.#cluster, definition.link, options);
    }
  }

  /**
   * Whether it was done; else somebody has changed the definition meanwhile.
   *
   * @param {KindDefinition} definition
   * @returns {Promise<boolean>}
   */
  async #bringTo(definition) {
    const found = await this.show(definition.link);
    const now = /** @type {Record<string, unknown>} */ ({ ...found });
    const named = Object.entries(definition).filter(([, value]) => value !== undefined);
    const changed = named.filter(([name, value]) => ordered(now[name]) !== ordered(value));
    if (changed.length === 0) return true;
    const fields = Object.fromEntries(changed);
    if (definition.version !== undefined) {
      // By which the node sees that it is not older.
      fields.version = definition.version;
    } else if (found.version) {
      const { link } = definition;
      throw new AmritaError(
        `${link} is defined by version ${found.version} of a program, and this definition has none: ` +
          "it changes nothing. Give it a version that is not older",
        { code: "OLDER_DEFINITION", status: 409, outcome: "notApplied" },
      );
    }
    const path = `/core/factories/${nameOf(definition.link)}`;
    try {
      await this.#cluster.send("PATCH", path, fields, { ifMatch: etagOf(found) });
      return true;
    } catch (error) {
      if (error instanceof AmritaError && error.code === "PRECONDITION_FAILED") return false;
      throw error;
    }
  }

  /** @returns {AsyncGenerator<import("./documents.js").Document<KindDefinition>, void, void>} */
  list() {
    return this.#definitions().list();
  }

  /** @param {string} link */
  show(link) {
    return this.#definitions().get(nameOf(link));
  }

  /**
   * Replaces the fields that are named, a schema as a whole; null takes one away.
   *
   * @param {string} link
   * @param {Partial<KindDefinition>} definition
   * @returns {Promise<import("./documents.js").Document<KindDefinition>>}
   */
  async change(link, definition) {
    const { link: _, kind: __, ...fields } = definition;
    const path = `/core/factories/${nameOf(link)}`;
    return (await this.#cluster.send("PATCH", path, fields, {})).body;
  }

  /**
   * Takes the factory away. One that has documents only if `withDocuments` says so: they stay, and are
   * there again when it is defined again.
   *
   * @param {string} link
   * @param {{withDocuments?: boolean}} [options]
   */
  async remove(link, { withDocuments = false } = {}) {
    const path = `/core/factories/${nameOf(link)}`;
    const options = withDocuments ? { pragma: "xn-force-index-update" } : {};
    await this.#cluster.send("DELETE", path, undefined, options);
  }

  /** @returns {Kind<KindDefinition>} */
  #definitions() {
    return new Kind(this.#cluster, "/core/factories", {});
  }
}

/**
 * A value as a text that does not depend on the order of fields.
 *
 * @param {unknown} value
 * @returns {string}
 */
function ordered(value) {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return `[${value.map(ordered).join()}]`;
  if (typeof value !== "object" || value instanceof Decimal) return stringify(value);
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  const sorted = fields.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${sorted.map(([name, field]) => `${stringify(name)}:${ordered(field)}`).join()}}`;
}

/**
 * The name of a definition: `/app/seats` is `app:seats`.
 *
 * @param {string} link
 */
function nameOf(link) {
  return link.replace(/^\/+|\/+$/g, "").replaceAll("/", ":");
}
