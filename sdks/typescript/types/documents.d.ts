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
export function etagOf(document: DocumentFields): string;
/**
 * A text as it stands in a filter.
 *
 * @param {string} text
 */
export function quoted(text: string): string;
/**
 * The documents of an answer and of the pages behind it.
 *
 * @param {import("./cluster.js").Cluster} cluster
 * @param {any} first the body of the first answer
 * @param {import("./cluster.js").RequestOptions} options
 * @returns {AsyncGenerator<any, void, void>}
 */
export function pages(cluster: import("./cluster.js").Cluster, first: any, options: import("./cluster.js").RequestOptions): AsyncGenerator<any, void, void>;
/**
 * @typedef {Omit<import("./cluster.js").RequestOptions, "ifMatch"> & {ifMatch?: string | DocumentFields}} WriteOptions
 *   `ifMatch` takes a document that was read: only if it is still at that version
 */
/**
 * The documents of a factory.
 *
 * @template {object} T
 */
export class Kind<T extends object> {
    /**
     * @param {import("./cluster.js").Cluster} cluster
     * @param {string} link of the factory, such as `/app/seats`
     * @param {{bigints?: Iterable<string>}} options
     */
    constructor(cluster: import("./cluster.js").Cluster, link: string, options: {
        bigints?: Iterable<string>;
    });
    link: string;
    /**
     * @param {string} name of a document, or its link
     * @returns {string}
     * @throws {TypeError} when no document can have it, such as `config`, which is a utility
     */
    linkOf(name: string): string;
    /**
     * Makes a document. Without a name it gets one.
     *
     * @param {T} state
     * @param {WriteOptions & {name?: string}} [options]
     * @returns {Promise<Document<T>>}
     */
    create(state: T, options?: WriteOptions & {
        name?: string;
    }): Promise<Document<T>>;
    /**
     * @param {string} name
     * @param {import("./cluster.js").RequestOptions & {version?: number, consistency?: "local"}} [options]
     * @returns {Promise<Document<T>>}
     */
    get(name: string, options?: import("./cluster.js").RequestOptions & {
        version?: number;
        consistency?: "local";
    }): Promise<Document<T>>;
    /**
     * The document, or undefined when it is not there.
     *
     * @param {string} name
     * @param {import("./cluster.js").RequestOptions} [options]
     * @returns {Promise<Document<T> | undefined>}
     */
    find(name: string, options?: import("./cluster.js").RequestOptions): Promise<Document<T> | undefined>;
    /**
     * Replaces the state.
     *
     * @param {string} name
     * @param {T} state
     * @param {WriteOptions} [options]
     * @returns {Promise<Document<T>>}
     */
    put(name: string, state: T, options?: WriteOptions): Promise<Document<T>>;
    /**
     * Changes some fields; one that is undefined is left as it is. With `mergePatch` a null removes a
     * field, and lists are replaced; without it a null is refused, as a node would pass over it.
     *
     * @param {string} name
     * @param {{[F in keyof T]?: T[F] | null}} fields
     * @param {WriteOptions} [options]
     * @returns {Promise<Document<T>>}
     */
    patch(name: string, fields: { [F in keyof T]?: T[F] | null; }, options?: WriteOptions): Promise<Document<T>>;
    /**
     * Deletes a document; to delete what is not there succeeds.
     *
     * @param {string} name
     * @param {WriteOptions} [options]
     * @returns {Promise<void>}
     */
    delete(name: string, options?: WriteOptions): Promise<void>;
    /**
     * Reads a document, has it changed, and writes it if nobody else has written it meanwhile; else
     * begins anew. `change` gives the new state, or undefined to leave it as it is.
     *
     * @param {string} name
     * @param {(state: Document<T>) => T | undefined} change is called again when somebody was quicker
     * @param {Omit<WriteOptions, "ifMatch" | "key">} [options]
     * @returns {Promise<Document<T>>}
     */
    update(name: string, change: (state: Document<T>) => T | undefined, options?: Omit<WriteOptions, "ifMatch" | "key">): Promise<Document<T>>;
    /**
     * All documents, one after the other; the next page is asked for when it is wanted.
     *
     * @param {ListOptions} [options]
     * @returns {AsyncGenerator<Document<T>, void, void>}
     */
    list(options?: ListOptions): AsyncGenerator<Document<T>, void, void>;
    /**
     * How many documents there are.
     *
     * @param {{filter?: string, signal?: AbortSignal}} [options]
     * @returns {Promise<number>}
     */
    count(options?: {
        filter?: string;
        signal?: AbortSignal;
    }): Promise<number>;
    /**
     * Has the program of the kind do something with a document, such as `act("A1", "hold", { who: "jane" })`.
     *
     * @param {string} name
     * @param {string} action
     * @param {object} [fields]
     * @param {WriteOptions} [options]
     * @returns {Promise<Document<T>>}
     */
    act(name: string, action: string, fields?: object, options?: WriteOptions): Promise<Document<T>>;
    /**
     * Each change of these documents (or of one), once and in order, as it happens.
     *
     * @param {import("./changes.js").ChangesOptions & {name?: string}} [options]
     * @returns {Changes<T>}
     */
    changes(options?: import("./changes.js").ChangesOptions & {
        name?: string;
    }): Changes<T>;
    /**
     * Everything: first each document that is there (`FOUND`), then each change, without a gap and
     * without a repetition. When the reader falls behind, it throws `FellBehindError`: begin anew.
     *
     * @param {{filter?: string, signal?: AbortSignal, away?: number}} [options]
     * @returns {AsyncGenerator<FoundOrChange<T>, void, void>}
     */
    follow(options?: {
        filter?: string;
        signal?: AbortSignal;
        away?: number;
    }): AsyncGenerator<FoundOrChange<T>, void, void>;
    #private;
}
/**
 * What the cluster says of a document.
 */
export type DocumentFields = {
    documentSelfLink: string;
    documentVersion: number;
    documentEpoch: number;
    documentKind: string;
    documentOwner: string;
    documentUpdateAction: string;
    documentUpdateTimeMicros: number;
    documentExpirationTimeMicros?: number | undefined;
};
export type Document<T> = T & DocumentFields;
export type ListOptions = {
    /**
     * such as `row eq 'A' and price gt 10`; see `quoted`
     */
    filter?: string | undefined;
    /**
     * `FIELD asc` or `FIELD desc`; without it in the order of links
     */
    orderBy?: string | undefined;
    /**
     * only so many
     */
    top?: number | undefined;
    /**
     * so many in one answer of a node (500)
     */
    page?: number | undefined;
    signal?: AbortSignal | undefined;
};
export type FoundOrChange<T> = {
    /**
     * `FOUND`: it was there when
     * the reading began
     */
    action: "FOUND" | import("./changes.js").Change<T>["action"];
    link: string;
    version: number;
    isMatch: boolean;
    document: Document<T>;
    token: string;
};
/**
 * `ifMatch` takes a document that was read: only if it is still at that version
 */
export type WriteOptions = Omit<import("./cluster.js").RequestOptions, "ifMatch"> & {
    ifMatch?: string | DocumentFields;
};
import { Changes } from "./changes.js";
