/**
 * What became of a write: the status as HTTP has it, and the document as it was written, or the
 * error. The body is null when there is none, or when it is longer than 256 KiB.
 *
 * @typedef {{status: number, body: any}} Written
 */
/**
 * What became of a write, whether it was made or refused.
 *
 * @param {import("./machine.js").Outcome} outcome
 * @returns {Written}
 */
export function outcomeOfWrite(outcome: import("./machine.js").Outcome): Written;
/**
 * The same for one that was made.
 *
 * @param {import("./machine.js").Outcome} outcome
 * @returns {Written}
 * @throws {Refused} the code and the words, when it was refused
 */
export function written(outcome: import("./machine.js").Outcome): Written;
/** A document that is written to, by its link. */
export class Document {
    /** @param {string} link */
    static at(link: string): Document;
    /** @param {string} link */
    constructor(link: string);
    /** @readonly */
    readonly link: string;
    /**
     * Makes it. The program names its documents itself: all copies must say the same.
     *
     * @param {object} state
     */
    post(state: object): Write;
    /**
     * Replaces what it says.
     *
     * @param {object} state
     */
    put(state: object): Write;
    /**
     * Changes what it says.
     *
     * @param {object} fields
     */
    patch(fields: object): Write;
    delete(): Write;
    /**
     * Has an action of it done.
     *
     * @param {string} action
     * @param {object} [body]
     */
    act(action: string, body?: object): Write;
}
/** A write that is made and not sent. */
export class Write {
    /**
     * @param {string} link
     * @param {number} method
     * @param {string} body
     */
    constructor(link: string, method: number, body: string);
    destination: string;
    method: number;
    payload: Buffer<ArrayBuffer>;
    /**
     * Writes, and does not wait for what becomes of it. What is refused is told to the log of the
     * document's node only.
     *
     * @param {import("./machine.js").Context} context
     */
    fork(context: import("./machine.js").Context): void;
    /**
     * Writes, and goes on with `next` when it is known what became of it: see `written`.
     *
     * @param {import("./machine.js").Context} context
     * @param {string} next the name of a handler of `Program.next`
     * @param {unknown} [kept] what that handler is given beside the outcome
     * @returns {number} for `context.cancel`
     */
    call(context: import("./machine.js").Context, next: string, kept?: unknown): number;
}
/**
 * What became of a write: the status as HTTP has it, and the document as it was written, or the
 * error. The body is null when there is none, or when it is longer than 256 KiB.
 */
export type Written = {
    status: number;
    body: any;
};
