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
export class Changes<T> implements AsyncIterable<Change<T>> {
    /**
     * @param {import("./cluster.js").Cluster} cluster
     * @param {string} path
     * @param {ChangesOptions} options
     */
    constructor(cluster: import("./cluster.js").Cluster, path: string, options: ChangesOptions);
    /**
     * Where this reader stands: behind the last change that it has given.
     *
     * @type {string | undefined}
     */
    token: string | undefined;
    /**
     * Takes the token from which this reader begins, if it has none. What is written after this
     * has returned will be told. Read documents after it, then iterate: so you know everything.
     *
     * @returns {Promise<string>}
     */
    begin(): Promise<string>;
    /** @returns {AsyncGenerator<Change<T>, void, void>} */
    [Symbol.asyncIterator](): AsyncGenerator<Change<T>, void, void>;
    #private;
}
export type Change<T> = {
    link: string;
    version: number;
    action: "POST" | "PUT" | "PATCH" | "DELETE" | "EXPIRE";
    /**
     * whether the document, as it is now, is one of those that are watched
     */
    isMatch: boolean;
    document: import("./documents.js").Document<T>;
    /**
     * the version before, if it was asked for
     */
    before?: import("./documents.js").Document<T> | undefined;
    /**
     * goes on behind this change
     */
    token: string;
};
export type ChangesOptions = {
    /**
     * a token: what happened since. Without it, what happens from now on
     */
    after?: string | undefined;
    /**
     * only documents that meet it, such as `price gt 10`
     */
    filter?: string | undefined;
    /**
     * of `client.changes()`: only documents whose links begin so
     */
    prefix?: string | undefined;
    /**
     * shows the version before as well
     */
    before?: boolean | undefined;
    /**
     * ends the reader; the iteration then ends without an error
     */
    signal?: AbortSignal | undefined;
    /**
     * milliseconds that all nodes may be away before it is an error (60000)
     */
    away?: number | undefined;
    /**
     * fields whose whole numbers are always a `bigint`
     */
    bigints?: Iterable<string> | undefined;
};
