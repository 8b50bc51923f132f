/**
 * @template {object} [S=any] what a document is
 * @param {string} link
 * @param {ServiceOptions} [options]
 * @returns {Service<S>}
 */
export function service<S extends object = any>(link: string, options?: ServiceOptions): Service<S>;
/** Thrown by a handler that says no: nothing is written, and the client is told why. */
export class Refusal extends Error {
    /**
     * @param {string} message
     * @param {400 | 403 | 404 | 409} [status]
     */
    constructor(message: string, status?: 400 | 403 | 404 | 409);
    status: 400 | 409 | 403 | 404;
}
/** What a handler is told beside the states. */
export class Call {
    /**
     * @param {import("./frames.js").CallFrame} asked
     * @param {any} body
     * @param {import("./frames.js").Sent[]} messages
     */
    constructor(asked: import("./frames.js").CallFrame, body: any, messages: import("./frames.js").Sent[]);
    /** The document. */
    link: string;
    /** The version that is being made. */
    version: number;
    /** Microseconds since 1970, by the clock of the document's owner. */
    timeMicros: number;
    /** The link of the user on whose behalf it is; empty if it is not known who asks. */
    user: string;
    /** What the client has sent with a PATCH or to an action. */
    body: any;
    get name(): string;
    /** Milliseconds since 1970. */
    get timeMillis(): number;
    /**
     * Sends a message to an immortal, such as `Ledger.at("ledger").pay(5)`. It is part of the version: it comes
     * to the immortal once if the version is written, and not at all if it is not.
     *
     * @param {import("../immortal/program.js").Message} message
     */
    fork({ destination, method, payload }: import("../immortal/program.js").Message): void;
    #private;
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
export class Service<S extends object = any> {
    /**
     * @param {string} link
     * @param {ServiceOptions} [options]
     */
    constructor(link: string, { version, callsMax, bigints, ...more }?: ServiceOptions);
    link: string;
    version: string;
    callsMax: number;
    more: {
        options?: ("IDEMPOTENT_POST" | "STRICT_UPDATE_CHECKING" | "IMMUTABLE")[] | null | undefined;
        /**
         * a JSON Schema
         */
        schema?: object | null | undefined;
        kind?: string | undefined;
        merge?: string[] | null | undefined;
        retentionLimit?: number | null | undefined;
        retentionFloor?: number | null | undefined;
        expiresAfterSeconds?: number | null | undefined;
        documentation?: string | null | undefined;
    };
    /**
     * A document is made.
     *
     * @param {(call: Call, created: S) => Made<S, never>} handler
     * @returns {this}
     */
    create(handler: (call: Call, created: S) => Made<S, never>): this;
    /**
     * A whole new state.
     *
     * @param {(call: Call, before: S, after: S) => Made<S, never>} handler
     * @returns {this}
     */
    put(handler: (call: Call, before: S, after: S) => Made<S, never>): this;
    /**
     * A change; `after` is the state with the change in it.
     *
     * @param {(call: Call, before: S, after: S) => Made<S, never>} handler
     * @returns {this}
     */
    patch(handler: (call: Call, before: S, after: S) => Made<S, never>): this;
    /**
     * The document is about to be deleted.
     *
     * @param {(call: Call, before: S) => void | Promise<void>} handler
     * @returns {this}
     */
    delete(handler: (call: Call, before: S) => void | Promise<void>): this;
    /**
     * POST to `LINK/actions/NAME`; `body` is what the client has sent.
     *
     * @param {string} name
     * @param {(call: Call, state: S, body: any) => Made<S, never>} handler
     * @returns {this}
     */
    action(name: string, handler: (call: Call, state: S, body: any) => Made<S, never>): this;
    get handlers(): ("create" | "put" | "patch" | "delete")[];
    get actions(): string[];
    /**
     * Defines the kind, with what this program does for it; or changes its definition. What else
     * somebody has said of the kind stays.
     *
     * @param {import("../client.js").Client} client
     */
    define(client: import("../client.js").Client): Promise<void>;
    /**
     * Serves until `signal` says so.
     *
     * @param {import("./runner.js").RunOptions} [options]
     */
    run(options?: import("./runner.js").RunOptions): Promise<void>;
    /** The whole main program: takes `--node`, defines the kind, and serves until SIGTERM or SIGINT. */
    main(): Promise<void>;
    /**
     * The frame that answers a call.
     *
     * @param {import("./frames.js").CallFrame} asked
     * @returns {Promise<Buffer>}
     */
    answer(asked: import("./frames.js").CallFrame): Promise<Buffer>;
    #private;
}
export type Own = {
    /**
     * how many calls it takes at a time (8)
     */
    callsMax?: number | undefined;
    /**
     * fields whose whole numbers are always a `bigint`
     */
    bigints?: Iterable<string> | undefined;
};
/**
 * What the kind's definition says beside what the program has. `version` is that of the program, for
 * people, and if it is numbers ("2.1") also that of the definition, which does not go back.
 */
export type ServiceOptions = Omit<import("../client.js").KindDefinition, "link" | "handlers" | "actions" | "version"> & {
    version?: string;
} & Own;
/**
 * a state, or nothing: the one that was given, as the
 *   handler has changed it
 */
export type Made<S, R> = S | void | R | Promise<S | void | R>;
