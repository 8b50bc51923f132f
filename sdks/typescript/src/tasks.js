/**
 * Tasks: jobs that the cluster does, whatever dies.
 *
 * @module
 */

import { Changes } from "./changes.js";
import { FellBehindError, TaskError } from "./errors.js";

/**
 * @typedef {object} TaskFields
 * @property {{stage: "CREATED" | "STARTED" | "FINISHED" | "FAILED" | "CANCELLED", isDirect?: boolean}} taskInfo
 * @property {string} [failureMessage]
 */

/**
 * @template T
 * @typedef {import("./documents.js").Document<T & TaskFields>} TaskDocument
 */

/**
 * A task that was started, by this process or by another.
 *
 * @template {object} T
 */
export class Task {
  #cluster;

  /**
   * @param {import("./cluster.js").Cluster} cluster
   * @param {string} link
   */
  constructor(cluster, link) {
    this.#cluster = cluster;
    /** Its link, by which another process finds it: `client.task(link)`. */
    this.link = link;
  }

  /**
   * The task as it stands.
   *
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<TaskDocument<T>>}
   */
  async get(options = {}) {
    const { body } = await this.#cluster.send("GET", this.link, undefined, options);
    return body;
  }

  /** Asks it to end. What it did so far is undone, if its service does so. */
  async cancel() {
    await this.#cluster.send("PATCH", this.link, { taskInfo: { stage: "CANCELLED" } }, {});
  }

  /**
   * Waits for its end, however long that takes and whichever nodes die meanwhile.
   *
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<TaskDocument<T>>} the task, FINISHED
   * @throws {TaskError} when it has ended otherwise
   */
  async wait({ signal } = {}) {
    for (;;) {
      signal?.throwIfAborted();
      try {
        const changes = new Changes(this.#cluster, this.link, { signal });
        await changes.begin();
        const now = await this.get({ signal });
        if (hasEnded(now)) return judged(now);
        for await (const { document } of changes) {
          if (hasEnded(/** @type {any} */ (document))) return judged(/** @type {any} */ (document));
        }
      } catch (error) {
        // What was missed shows in the task itself.
        if (!(error instanceof FellBehindError)) throw error;
      }
    }
  }
}

/** @param {TaskFields} task */
function hasEnded({ taskInfo }) {
  return ["FINISHED", "FAILED", "CANCELLED"].includes(taskInfo?.stage);
}

/**
 * @template T
 * @param {TaskDocument<T>} task
 */
function judged(task) {
  const { stage } = task.taskInfo;
  if (stage === "FINISHED") return task;
  const why = task.failureMessage === undefined ? "" : `: ${task.failureMessage}`;
  const ended = stage === "CANCELLED" ? "CANCELLED" : "FAILED";
  throw new TaskError(`${task.documentSelfLink} has ended with ${stage}${why}`, ended, task);
}
