/**
 * The client part: it runs in Node and in a browser, and knows nothing of what is inside of a node.
 *
 * ```js
 * import { Client } from "@amrita/sdk";
 *
 * const client = new Client(["http://127.0.0.1:8001", "http://127.0.0.1:8002"]);
 * const examples = client.kind("/core/examples");
 * await examples.create({ name: "first" }, { name: "one" });
 * ```
 *
 * @module
 */

export { Changes } from "./changes.js";
export { Client, Kinds } from "./client.js";
export { etagOf, Kind, quoted } from "./documents.js";
export { AmritaError, FellBehindError, TaskError } from "./errors.js";
export { Decimal, parse, stringify } from "./json.js";
export { where } from "./query.js";
export { Task } from "./tasks.js";

/** @typedef {import("./cluster.js").Answer} Answer */
/** @typedef {import("./cluster.js").ClientOptions} ClientOptions */
/** @typedef {import("./cluster.js").RequestOptions} RequestOptions */
/** @typedef {import("./client.js").KindDefinition} KindDefinition */
/** @typedef {import("./client.js").BatchRequest} BatchRequest */
/** @typedef {import("./client.js").BatchOutcome} BatchOutcome */
/** @typedef {import("./client.js").BatchAnswer} BatchAnswer */
/** @typedef {import("./documents.js").DocumentFields} DocumentFields */
/** @typedef {import("./errors.js").Outcome} Outcome */
/**
 * @template T
 * @typedef {import("./documents.js").Document<T>} Document
 */
/**
 * @template T
 * @typedef {import("./changes.js").Change<T>} Change
 */
