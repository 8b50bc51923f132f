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
export class Task<T extends object> {
    /**
     * @param {import("./cluster.js").Cluster} cluster
     * @param {string} link
     */
    constructor(cluster: import("./cluster.js").Cluster, link: string);
    /** Its link, by which another process finds it: `client.task(link)`. */
    link: string;
    /**
     * The task as it stands.
     *
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<TaskDocument<T>>}
     */
    get(options?: {
        signal?: AbortSignal;
    }): Promise<TaskDocument<T>>;
    /** Asks it to end. What it did so far is undone, if its service does so. */
    cancel(): Promise<void>;
    /**
     * Waits for its end, however long that takes and whichever nodes die meanwhile.
     *
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<TaskDocument<T>>} the task, FINISHED
     * @throws {TaskError} when it has ended otherwise
     */
    wait({ signal }?: {
        signal?: AbortSignal;
    }): Promise<TaskDocument<T>>;
    #private;
}
export type TaskFields = {
    taskInfo: {
        stage: "CREATED" | "STARTED" | "FINISHED" | "FAILED" | "CANCELLED";
        isDirect?: boolean;
    };
    failureMessage?: string | undefined;
};
export type TaskDocument<T> = import("./documents.js").Document<T & TaskFields>;
