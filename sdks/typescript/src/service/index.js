/**
 * The handlers of a kind of documents, in a program of your own beside the nodes.
 *
 * ```js
 * import { Refusal, service } from "@amrita/sdk/service";
 *
 * const seats = service("/app/seats", { version: "1", schema: { type: "object" } })
 *   .action("hold", (call, seat, { who }) => {
 *     if (seat.heldBy !== undefined && seat.heldBy !== who) throw new Refusal(`held by ${seat.heldBy}`);
 *     seat.heldBy = who;
 *   });
 * await seats.main();
 * ```
 *
 * `POST /app/seats/A1/actions/hold {"who": "jane"}` calls it; what the seat is afterwards is written. Start as
 * many copies as you like, beside any nodes. A copy may be killed at any moment: a call that it had
 * goes to another one, and nothing is written twice.
 *
 * @module
 */

export { Call, Refusal, Service, service } from "./service.js";
export { ServiceError } from "./runner.js";

/** @typedef {import("./service.js").ServiceOptions} ServiceOptions */
/** @typedef {import("./runner.js").RunOptions} RunOptions */
