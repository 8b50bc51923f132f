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
  constructor(message, what) {
    super(message, what.cause === undefined ? undefined : { cause: what.cause });
    this.name = "AmritaError";
    /**
     * Stable, and meant for programs: `NOT_FOUND`, `VERSION_MISMATCH`, ...; `UNREACHABLE` and
     * `OUT_OF_TIME` when no node has answered.
     */
    this.code = what.code;
    /** The status of the answer; 0 when there was none. */
    this.status = what.status ?? 0;
    /** @type {Outcome} */
    this.outcome = what.outcome;
    this.details = what.details ?? [];
    /** The whole body, when it was JSON. */
    this.body = what.body;
  }
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
  constructor(message, token) {
    super(message, { code: "CHANGES_GONE", status: 410 });
    this.name = "FellBehindError";
    this.token = token;
  }
}

/** A task that has ended with FAILED or CANCELLED. */
export class TaskError extends AmritaError {
  /**
   * @param {string} message
   * @param {"FAILED" | "CANCELLED"} stage
   * @param {unknown} task
   */
  constructor(message, stage, task) {
    super(message, { code: `TASK_${stage}`, status: 200, body: task });
    this.name = "TaskError";
    this.stage = stage;
  }
}
