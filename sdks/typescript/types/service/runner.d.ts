/** @typedef {import("./service.js").Service<any>} Service */
/**
 * @param {Service} service
 * @param {RunOptions} [options]
 * @returns {Promise<void>}
 * @throws {ServiceError} when it cannot go on
 */
export function run(service: Service, { node, token, ca, signal }?: RunOptions): Promise<void>;
/**
 * @param {Service} service
 */
export function main(service: Service): Promise<void>;
/**
 * @typedef {object} RunOptions
 * @property {string | string[]} [node] the node beside which the program runs: `http://host:port`,
 *   `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
 * @property {string} [token] where logins are demanded, for addresses with TLS; without it
 *   `AMRITA_TOKEN` in the environment
 * @property {string} [ca] certificates in PEM of who has signed those of the nodes; without it the file
 *   that `AMRITA_CA_FILE` names
 * @property {AbortSignal} [signal] stops the program: it takes no more calls, and answers those that it has
 */
/** Why a program does not go on: `code` is the node's. */
export class ServiceError extends Error {
    /**
     * @param {string} message
     * @param {string} code
     */
    constructor(message: string, code: string);
    code: string;
}
export type Service = import("./service.js").Service<any>;
export type RunOptions = {
    /**
     * the node beside which the program runs: `http://host:port`,
     * `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
     */
    node?: string | string[] | undefined;
    /**
     * where logins are demanded, for addresses with TLS; without it
     * `AMRITA_TOKEN` in the environment
     */
    token?: string | undefined;
    /**
     * certificates in PEM of who has signed those of the nodes; without it the file
     * that `AMRITA_CA_FILE` names
     */
    ca?: string | undefined;
    /**
     * stops the program: it takes no more calls, and answers those that it has
     */
    signal?: AbortSignal | undefined;
};
