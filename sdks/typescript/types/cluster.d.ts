/**
 * Nodes send nobody elsewhere, and with their headers nobody is followed elsewhere: a redirect is
 * an error.
 *
 * @param {Answer} answer
 */
export function isError({ status }: Answer): boolean;
/** @param {Answer} answer */
export function errorOf({ status, body, node }: Answer): AmritaError;
/**
 * A path as it stands on the wire: what may not stand there is escaped. A query is left as it is.
 *
 * @param {string} pathAndQuery
 */
export function escapePath(pathAndQuery: string): string;
/**
 * @param {number} millis
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(millis: number, signal?: AbortSignal): Promise<void>;
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
    /**
     * @param {string | string[]} addresses `http://host:port`, several in a list or behind commas
     * @param {ClientOptions} options
     */
    constructor(addresses: string | string[], options: ClientOptions);
    /** @type {URL[]} */
    nodes: URL[];
    /** Milliseconds that a request is tried for. */
    patience: number;
    /** @param {string | undefined} token */
    setToken(token: string | undefined): void;
    /** The number of the node that answered last. */
    get preferred(): number;
    close(): void;
    /** A key that no other write has. */
    nextKey(): string | undefined;
    /**
     * Asks until a node has answered with anything but "try again".
     *
     * @param {string} method
     * @param {string} path with its query
     * @param {unknown} body
     * @param {RequestOptions & {authorization?: string}} options
     * @returns {Promise<Answer>}
     */
    send(method: string, path: string, body: unknown, options: RequestOptions & {
        authorization?: string;
    }): Promise<Answer>;
    /**
     * Asks one node, once. An answer that tells of an error is given back, too.
     *
     * @param {number} which
     * @param {string} path
     * @param {number} millis
     * @param {RequestOptions} options
     */
    getFrom(which: number, path: string, millis: number, options: RequestOptions): Promise<Answer>;
    #private;
}
export type ClientOptions = {
    /**
     * shown with each request; see `Client.login`
     */
    token?: string | undefined;
    /**
     * milliseconds that a request is tried for, all repetitions together (15000)
     */
    patience?: number | undefined;
    /**
     * `false` sends no keys, and so repeats a write only if it was surely not carried out
     */
    keys?: boolean | undefined;
    /**
     * certificates in PEM that are believed (Node only)
     */
    ca?: string | undefined;
};
export type RequestOptions = {
    /**
     * an ETag, or `*`
     */
    ifMatch?: string | undefined;
    /**
     * an ETag, or `*`
     */
    ifNoneMatch?: string | undefined;
    /**
     * an `Idempotency-Key` of your own
     */
    key?: string | undefined;
    /**
     * how many replicas must hold a write before it is acknowledged
     */
    quorum?: number | "all" | undefined;
    pragma?: string | undefined;
    /**
     * the body of a PATCH is a JSON merge patch
     */
    mergePatch?: boolean | undefined;
    /**
     * milliseconds, in place of the client's
     */
    patience?: number | undefined;
    signal?: AbortSignal | undefined;
    /**
     * fields whose whole numbers are always a `bigint`
     */
    bigints?: Iterable<string> | undefined;
};
export type Answer = {
    status: number;
    /**
     * what the JSON says; undefined when the body is empty
     */
    body: any;
    etag: string | undefined;
    location: string | undefined;
    /**
     * the address of the node that has answered
     */
    node: string;
};
/**
 * Why a request may be sent once more after an attempt that may have been done: a `read` changes
 * nothing; under its key a write is one, however often it is sent (`byKey`); in some places to ask
 * for the same twice is to have it once (`sameTwice`), and there a later answer does not tell what
 * became of an earlier attempt.
 */
export type Repeat = "read" | "byKey" | "sameTwice" | "never";
import { AmritaError } from "./errors.js";
