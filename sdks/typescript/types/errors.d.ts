/**
 * What can go wrong, with the words of the node that said so.
 *
 * @module
 */
/**
 * Whether a write has happened: `notApplied` surely not, `unknown` it may have. Reads have none.
 *
 * @typedef {"notApplied" | "unknown" | undefined} Outcome
 */
/** A request that was refused, or that no node has answered. */
export class AmritaError extends Error {
    /**
     * @param {string} message
     * @param {{code: string, status?: number, outcome?: Outcome, details?: string[], body?: unknown, cause?: unknown}} what
     */
    constructor(message: string, what: {
        code: string;
        status?: number;
        outcome?: Outcome;
        details?: string[];
        body?: unknown;
        cause?: unknown;
    });
    /**
     * Stable, and meant for programs: `NOT_FOUND`, `VERSION_MISMATCH`, ...; `UNREACHABLE` and
     * `OUT_OF_TIME` when no node has answered.
     */
    code: string;
    /** The status of the answer; 0 when there was none. */
    status: number;
    /** @type {Outcome} */
    outcome: Outcome;
    details: string[];
    /** The whole body, when it was JSON. */
    body: unknown;
}
/**
 * A reader of changes was away for too long: no node keeps the changes after its token. Read the
 * documents again and begin anew.
 */
export class FellBehindError extends AmritaError {
    /**
     * @param {string} message
     * @param {string} token
     */
    constructor(message: string, token: string);
    token: string;
}
/** A task that has ended with FAILED or CANCELLED. */
export class TaskError extends AmritaError {
    /**
     * @param {string} message
     * @param {"FAILED" | "CANCELLED"} stage
     * @param {unknown} task
     */
    constructor(message: string, stage: "FAILED" | "CANCELLED", task: unknown);
    stage: "FAILED" | "CANCELLED";
}
/**
 * Whether a write has happened: `notApplied` surely not, `unknown` it may have. Reads have none.
 */
export type Outcome = "notApplied" | "unknown" | undefined;
