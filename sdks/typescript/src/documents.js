/**
 * Documents of one kind, typed.
 *
 * @module
 */

import { Changes } from "./changes.js";
import { AmritaError } from "./errors.js";
import { checkedDocument, checkedLink, checkedName } from "./names.js";

/** How many documents one page has unless it is said. */
const PAGE_DEFAULT = 500;

/** So often `update` begins anew when others were quicker. */
const UPDATE_TIMES_MAX = 50;

/**
 * What the cluster says of a document.
 *
 * @typedef {object} DocumentFields
 * @property {string} documentSelfLink
 * @property {number} documentVersion
 * @property {number} documentEpoch
 * @property {string} documentKind
 * @property {string} documentOwner
 * @property {string} documentUpdateAction
 * @property {number} documentUpdateTimeMicros
 * @property {number} [documentExpirationTimeMicros]
 */

/**
 * @template T
 * @typedef {T & DocumentFields} Document
 */

/**
 * @typedef {object} ListOptions
 * @property {string} [filter] such as `row eq 'A' and price gt 10`; see `quoted`
 * @property {string} [orderBy] `FIELD asc` or `FIELD desc`; without it in the order of links
 * @property {number} [top] only so many
 * @property {number} [page] so many in one answer of a node (500)
 * @property {AbortSignal} [signal]
 */

/**
 * @template T
 * @typedef {object} FoundOrChange
 * @property {"FOUND" | import("./changes.js").Change<T>["action"]} action `FOUND`: it was there when
 *   the reading began
 * @property {string} link
 * @property {number} version
 * @property {boolean} isMatch
 * @property {Document<T>} document
 * @property {string} token
 */

/**
 * The version of a document as an entity tag, for `ifMatch`.
 *
 * @param {DocumentFields} document
 */
export function etagOf(document) {
  const { documentEpoch, documentVersion, documentUpdateTimeMicros } = document;
  return `"${documentEpoch}.${documentVersion}.${documentUpdateTimeMicros.toString(16)}"`;
}

/**
 * A text as it stands in a filter.
 *
 * @param {string} text
 */
export function quoted(text) {
  return `'${text.replaceAll("'", "''")}'`;
}

/**
 * @typedef {Omit<import("./cluster.js").RequestOptions, "ifMatch"> & {ifMatch?: string | DocumentFields}} WriteOptions
 *   `ifMatch` takes a document that was read: only if it is still at that version
 */

/**
 * The documents of a factory.
 *
 * @template {object} T
 */
export class Kind {
  #cluster;
  #bigints;

  /**
   * @param {import("./cluster.js").Cluster} cluster
   * @param {string} link of the factory, such as `/app/seats`
   * @param {{bigints?: Iterable<string>}} options
   */
  constructor(cluster, link, options) {
    this.#cluster = cluster;
    this.#bigints = options.bigints;
    this.link = checkedLink(link.replace(/\/+$/, ""));
  }

  /**
   * @param {string} name of a document, or its link
   * @returns {string}
   * @throws {TypeError} when no document can have it, such as `config`, which is a utility
   */
  linkOf(name) {
    return checkedDocument(name.startsWith("/") ? name : `${this.link}/${checkedName(name)}`);
  }

  /**
   * Makes a document. Without a name it gets one.
   *
   * @param {T} state
   * @param {WriteOptions & {name?: string}} [options]
   * @returns {Promise<Document<T>>}
   */
  async create(state, options = {}) {
    const { name, ...rest } = options;
    const body = name === undefined ? state : { ...state, documentSelfLink: name };
    return this.#send("POST", this.link, body, rest);
  }

  /**
   * @param {string} name
   * @param {import("./cluster.js").RequestOptions & {version?: number, consistency?: "local"}} [options]
   * @returns {Promise<Document<T>>}
   */
  async get(name, options = {}) {
    const { version, consistency, ...rest } = options;
    const parameters = [];
    if (version !== undefined) parameters.push(`documentVersion=${version}`);
    if (consistency !== undefined) parameters.push(`consistency=${consistency}`);
    const query = parameters.length === 0 ? "" : `?${parameters.join("&")}`;
    return this.#send("GET", this.linkOf(name) + query, undefined, rest);
  }

  /**
   * The document, or undefined when it is not there.
   *
   * @param {string} name
   * @param {import("./cluster.js").RequestOptions} [options]
   * @returns {Promise<Document<T> | undefined>}
   */
  async find(name, options = {}) {
    try {
      return await this.get(name, options);
    } catch (error) {
      if (error instanceof AmritaError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  /**
   * Replaces the state.
   *
   * @param {string} name
   * @param {T} state
   * @param {WriteOptions} [options]
   * @returns {Promise<Document<T>>}
   */
  async put(name, state, options = {}) {
    return this.#send("PUT", this.linkOf(name), state, options);
  }

  /**
   * Changes some fields; one that is undefined is left as it is. With `mergePatch` a null removes a
   * field, and lists are replaced; without it a null is refused, as a node would pass over it.
   *
   * @param {string} name
   * @param {{[F in keyof T]?: T[F] | null}} fields
   * @param {WriteOptions} [options]
   * @returns {Promise<Document<T>>}
   */
  async patch(name, fields, options = {}) {
    const removed = Object.entries(fields).find(([, value]) => value === null);
    if (removed !== undefined && !options.mergePatch) {
      throw new TypeError(
        `'${removed[0]}' is null, which a PATCH passes over: give {mergePatch: true} to remove the field, or leave it out`,
      );
    }
    return this.#send("PATCH", this.linkOf(name), fields, options);
  }

  /**
   * Deletes a document; to delete what is not there succeeds.
   *
   * @param {string} name
   * @param {WriteOptions} [options]
   * @returns {Promise<void>}
   */
  async delete(name, options = {}) {
    await this.#send("DELETE", this.linkOf(name), undefined, options);
  }

  /**
   * Reads a document, has it changed, and writes it if nobody else has written it meanwhile; else
   * begins anew. `change` gives the new state, or undefined to leave it as it is.
   *
   * @param {string} name
   * @param {(state: Document<T>) => T | undefined} change is called again when somebody was quicker
   * @param {Omit<WriteOptions, "ifMatch" | "key">} [options]
   * @returns {Promise<Document<T>>}
   */
  async update(name, change, options = {}) {
    for (let times = 1; ; times += 1) {
      const found = await this.get(name, { signal: options.signal });
      const changed = change(found);
      if (changed === undefined) return found;
      try {
        return await this.put(name, changed, { ...options, ifMatch: found });
      } catch (error) {
        const wasLate = error instanceof AmritaError && error.code === "PRECONDITION_FAILED";
        if (!wasLate || times >= UPDATE_TIMES_MAX) throw error;
      }
    }
  }

  /**
   * All documents, one after the other; the next page is asked for when it is wanted.
   *
   * @param {ListOptions} [options]
   * @returns {AsyncGenerator<Document<T>, void, void>}
   */
  async *list(options = {}) {
    const { filter, orderBy, top, page = PAGE_DEFAULT, signal } = options;
    const parameters = ["expand", `$limit=${Math.min(page, top ?? page)}`];
    if (filter !== undefined) parameters.push(`$filter=${encodeURIComponent(filter)}`);
    if (orderBy !== undefined) parameters.push(`$orderby=${encodeURIComponent(orderBy)}`);
    const asked = { signal, bigints: this.#bigints };
    const first = await this.#cluster.send(
      "GET",
      `${this.link}?${parameters.join("&")}`,
      undefined,
      asked,
    );
    let left = top ?? Number.POSITIVE_INFINITY;
    for await (const document of pages(this.#cluster, first.body, asked)) {
      if (left <= 0) return;
      left -= 1;
      yield /** @type {Document<T>} */ (document);
    }
  }

  /**
   * How many documents there are.
   *
   * @param {{filter?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<number>}
   */
  async count(options = {}) {
    const filter =
      options.filter === undefined ? "" : `&$filter=${encodeURIComponent(options.filter)}`;
    const { signal } = options;
    const { body } = await this.#cluster.send(
      "GET",
      `${this.link}?$count=true${filter}`,
      undefined,
      { signal },
    );
    return body.documentCount;
  }

  /**
   * Has the program of the kind do something with a document, such as `act("A1", "hold", { who: "jane" })`.
   *
   * @param {string} name
   * @param {string} action
   * @param {object} [fields]
   * @param {WriteOptions} [options]
   * @returns {Promise<Document<T>>}
   */
  async act(name, action, fields = {}, options = {}) {
    return this.#send("POST", `${this.linkOf(name)}/actions/${checkedName(action)}`, fields, options);
  }

  /**
   * Each change of these documents (or of one), once and in order, as it happens.
   *
   * @param {import("./changes.js").ChangesOptions & {name?: string}} [options]
   * @returns {Changes<T>}
   */
  changes(options = {}) {
    const { name, ...rest } = options;
    const path = name === undefined ? this.link : this.linkOf(name);
    return new Changes(this.#cluster, path, { bigints: this.#bigints, ...rest });
  }

  /**
   * Everything: first each document that is there (`FOUND`), then each change, without a gap and
   * without a repetition. When the reader falls behind, it throws `FellBehindError`: begin anew.
   *
   * @param {{filter?: string, signal?: AbortSignal, away?: number}} [options]
   * @returns {AsyncGenerator<FoundOrChange<T>, void, void>}
   */
  async *follow(options = {}) {
    const changes = this.changes(options);
    let token;
    /** What was read after the token may be told again. @type {Map<string, [number, number]>} */
    const known = new Map();
    try {
      token = await changes.begin();
      for await (const document of this.list({ filter: options.filter, signal: options.signal })) {
        const { documentSelfLink: link, documentVersion: version } = document;
        known.set(link, [version, document.documentUpdateTimeMicros]);
        yield { action: "FOUND", link, version, isMatch: true, document, token };
      }
    } catch (error) {
      if (options.signal?.aborted) return;
      throw error;
    }
    for await (const change of changes) {
      if (isKnown(known, change)) continue;
      yield change;
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} body
   * @param {WriteOptions} options
   * @returns {Promise<Document<T>>}
   */
  async #send(method, path, body, options) {
    const { ifMatch, ...rest } = options;
    const tag = typeof ifMatch === "object" ? etagOf(ifMatch) : ifMatch;
    const asked = { bigints: this.#bigints, ...rest, ifMatch: tag };
    const answer = await this.#cluster.send(method, path, body, asked);
    return answer.body;
  }
}

/**
 * Whether a change was seen already, as the document that was read after it. A link that was
 * deleted for good begins at version 0 again, so the time of the write counts as well.
 *
 * @param {Map<string, [number, number]>} known
 * @param {import("./changes.js").Change<any>} change
 */
function isKnown(known, change) {
  const seen = known.get(change.link);
  if (seen === undefined) return false;
  const [version, time] = seen;
  const written = change.document?.documentUpdateTimeMicros ?? Number.POSITIVE_INFINITY;
  if (change.action !== "EXPIRE" && change.version <= version && written <= time) return true;
  // Changes of a document come in order: from here on all of them are new.
  known.delete(change.link);
  return false;
}

/**
 * The documents of an answer and of the pages behind it.
 *
 * @param {import("./cluster.js").Cluster} cluster
 * @param {any} first the body of the first answer
 * @param {import("./cluster.js").RequestOptions} options
 * @returns {AsyncGenerator<any, void, void>}
 */
export async function* pages(cluster, first, options) {
  for (let page = first.results ?? first; ;) {
    for (const link of page.documentLinks ?? []) {
      yield page.documents?.[link] ?? { documentSelfLink: link };
    }
    if (page.nextPageLink === undefined || page.nextPageLink === null || page.nextPageLink === "")
      return;
    const expand = page.nextPageLink.includes("?") ? "&expand" : "?expand";
    const next = await cluster.send("GET", page.nextPageLink + expand, undefined, options);
    page = next.body.results ?? next.body;
  }
}
