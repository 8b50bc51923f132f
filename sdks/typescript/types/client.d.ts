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
    /**
     * @param {string | string[]} [addresses] of the nodes, `http://host:port`, in a list or behind
     *   commas; the first is asked first. Without any the ports 8001, 8002, 8003 and 8000 of this machine
     * @param {import("./cluster.js").ClientOptions} [options]
     */
    constructor(addresses?: string | string[], options?: import("./cluster.js").ClientOptions);
    /** Kinds of documents of your own, defined while the cluster runs. */
    kinds: Kinds;
    /** @returns {string[]} */
    get addresses(): string[];
    /** Ends the connections that are idle. */
    close(): void;
    /**
     * Any request, for what has no method of its own.
     *
     * @param {"GET" | "POST" | "PUT" | "PATCH" | "DELETE"} method
     * @param {string} path with its query
     * @param {unknown} [body]
     * @param {import("./cluster.js").RequestOptions} [options]
     * @returns {Promise<import("./cluster.js").Answer>}
     */
    request(method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown, options?: import("./cluster.js").RequestOptions): Promise<import("./cluster.js").Answer>;
    /**
     * The documents of a factory.
     *
     * @template {object} T what the documents are
     * @param {string} link such as `/app/seats` or `/core/examples`
     * @param {{bigints?: Iterable<string>}} [options] `bigints`: fields whose whole numbers are always
     *   a `bigint`; of other fields only those that a `number` would not hold exactly
     * @returns {Kind<T>}
     */
    kind<T extends object>(link: string, options?: {
        bigints?: Iterable<string>;
    }): Kind<T>;
    /**
     * Makes many writes in one request; those of one partition all or none (documents with one key in
     * braces, as `/app/orders/{42}/a`, lie in one). When none was done, an error is thrown. With the
     * same `key` it can be called again, and what was done is not done twice.
     *
     * @param {BatchRequest[]} requests
     * @param {import("./cluster.js").RequestOptions & {atomic?: "partition" | "all"}} [options]
     * @returns {Promise<BatchAnswer>}
     */
    batch(requests: BatchRequest[], { atomic, ...options }?: import("./cluster.js").RequestOptions & {
        atomic?: "partition" | "all";
    }): Promise<BatchAnswer>;
    /**
     * The documents that a query finds, of all kinds; pages are asked for as they are wanted.
     *
     * @template T
     * @param {object} query as `where({...})` makes it
     * @param {import("./query.js").QueryOptions} [options]
     * @returns {AsyncGenerator<import("./documents.js").Document<T>, void, void>}
     */
    query<T>(query: object, options?: import("./query.js").QueryOptions): AsyncGenerator<import("./documents.js").Document<T>, void, void>;
    /**
     * How many documents a query finds.
     *
     * @param {object} query
     * @param {import("./query.js").QueryOptions} [options]
     * @returns {Promise<number>}
     */
    count(query: object, options?: import("./query.js").QueryOptions): Promise<number>;
    /**
     * Each committed change of all documents, once and in order, as it happens.
     *
     * @param {import("./changes.js").ChangesOptions} [options]
     * @returns {Changes<any>}
     */
    changes(options?: import("./changes.js").ChangesOptions): Changes<any>;
    /**
     * Starts a task. To wait for its end: `await (await client.startTask(...)).wait()`.
     *
     * @template {object} T
     * @param {string} factory such as `/core/example-tasks`
     * @param {Partial<T> & {documentSelfLink?: string}} [body]
     * @param {import("./cluster.js").RequestOptions} [options]
     * @returns {Promise<Task<T>>}
     */
    startTask<T extends object>(factory: string, body?: Partial<T> & {
        documentSelfLink?: string;
    }, options?: import("./cluster.js").RequestOptions): Promise<Task<T>>;
    /**
     * A task that is there already.
     *
     * @template {object} T
     * @param {string} link
     * @returns {Task<T>}
     */
    task<T extends object>(link: string): Task<T>;
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
    impulse(name: string, method: number, args?: unknown[], { from, ...options }?: {
        from?: string;
        key?: string;
        patience?: number;
        signal?: AbortSignal;
    }): Promise<number>;
    /**
     * Registers an immortal. The same registration again changes nothing.
     *
     * @param {string} name
     * @param {{replicas?: number | string[], [option: string]: unknown}} [options]
     */
    registerImmortal(name: string, options?: {
        replicas?: number | string[];
        [option: string]: unknown;
    }): Promise<any>;
    /**
     * An instance, as its owner knows it.
     *
     * @param {string} name
     * @returns {Promise<any>}
     */
    immortal(name: string): Promise<any>;
    /**
     * Logs in; the token goes with each request from here on.
     *
     * @param {string} user
     * @param {string} password
     * @param {{expiresAfterSeconds?: number}} [options]
     * @returns {Promise<string>} the token
     */
    login(user: string, password: string, options?: {
        expiresAfterSeconds?: number;
    }): Promise<string>;
    /** Makes the token worthless on all nodes, and forgets it. */
    logout(): Promise<void>;
    #private;
}
/** The definitions of kinds. */
export class Kinds {
    /** @param {Cluster} cluster */
    constructor(cluster: Cluster);
    /**
     * Defines a kind. When this has returned, its factory is there at every node.
     *
     * @template {object} T
     * @param {KindDefinition} definition
     * @param {{bigints?: Iterable<string>}} [options]
     * @returns {Promise<Kind<T>>}
     */
    create<T extends object>(definition: KindDefinition, options?: {
        bigints?: Iterable<string>;
    }): Promise<Kind<T>>;
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
    ensure<T extends object>(definition: KindDefinition, options?: {
        bigints?: Iterable<string>;
    }): Promise<Kind<T>>;
    /** @returns {AsyncGenerator<import("./documents.js").Document<KindDefinition>, void, void>} */
    list(): AsyncGenerator<import("./documents.js").Document<KindDefinition>, void, void>;
    /** @param {string} link */
    show(link: string): Promise<import("./documents.js").Document<KindDefinition>>;
    /**
     * Replaces the fields that are named, a schema as a whole; null takes one away.
     *
     * @param {string} link
     * @param {Partial<KindDefinition>} definition
     * @returns {Promise<import("./documents.js").Document<KindDefinition>>}
     */
    change(link: string, definition: Partial<KindDefinition>): Promise<import("./documents.js").Document<KindDefinition>>;
    /**
     * Takes the factory away. One that has documents only if `withDocuments` says so: they stay, and are
     * there again when it is defined again.
     *
     * @param {string} link
     * @param {{withDocuments?: boolean}} [options]
     */
    remove(link: string, { withDocuments }?: {
        withDocuments?: boolean;
    }): Promise<void>;
    #private;
}
/**
 * What defines a kind of documents; see "Kinds of your own" in the reference. In `ensure` and
 * `change`, null takes a field away.
 */
export type KindDefinition = {
    /**
     * of the factory: any path but those under `/core`
     */
    link: string;
    /**
     * a JSON Schema
     */
    schema?: object | null | undefined;
    kind?: string | undefined;
    /**
     * numbers ("2.1") of the program that defines it: an older one
     * changes nothing from then on, and is refused with `OLDER_DEFINITION`
     */
    version?: string | null | undefined;
    merge?: string[] | null | undefined;
    options?: ("IDEMPOTENT_POST" | "STRICT_UPDATE_CHECKING" | "IMMUTABLE")[] | null | undefined;
    retentionLimit?: number | null | undefined;
    retentionFloor?: number | null | undefined;
    expiresAfterSeconds?: number | null | undefined;
    /**
     * what a program outside does
     */
    handlers?: ("create" | "put" | "patch" | "delete")[] | null | undefined;
    /**
     * names of what it does beside that
     */
    actions?: string[] | null | undefined;
    documentation?: string | null | undefined;
};
/**
 * One write of a batch.
 */
export type BatchRequest = {
    method: "POST" | "PUT" | "PATCH" | "DELETE";
    /**
     * of the document, or of the factory for a POST
     */
    path: string;
    body?: object | undefined;
    /**
     * an entity tag, as `etagOf` makes it
     */
    ifMatch?: string | undefined;
    ifNoneMatch?: string | undefined;
    /**
     * of this write alone
     */
    idempotencyKey?: string | undefined;
    contentType?: "application/merge-patch+json" | "application/json" | undefined;
    pragma?: string | undefined;
};
export type BatchOutcome = {
    status: number;
    outcome: "applied" | "notApplied" | "unknown";
    /**
     * the document
     */
    body?: any;
    error?: {
        code: string;
        message: string;
    } | undefined;
};
export type BatchAnswer = {
    /**
     * `mixed`: see `requests` for what was done
     */
    outcome: "applied" | "mixed";
    /**
     * in the order of the writes
     */
    requests: BatchOutcome[];
};
import { Kind } from "./documents.js";
import { Changes } from "./changes.js";
import { Task } from "./tasks.js";
import { Cluster } from "./cluster.js";
