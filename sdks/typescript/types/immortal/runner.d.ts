/**
 * Runs a program until it is stopped. It connects again for ever, whenever the connection ends.
 *
 * @template {object} S
 * @param {import("./program.js").Program<S>} program
 * @param {RunOptions} [options]
 * @returns {Promise<void>}
 * @throws {RunError} when it cannot go on
 */
export function run<S extends object>(program: import("./program.js").Program<S>, options?: RunOptions): Promise<void>;
/**
 * The whole main program of an immortal: reads `--node` and `--instance` from the arguments, runs,
 * and ends the process with 1 when it cannot go on.
 *
 * @template {object} S
 * @param {import("./program.js").Program<S>} program
 * @param {RunOptions} [options]
 */
export function main<S extends object>(program: import("./program.js").Program<S>, options?: RunOptions): Promise<void>;
/**
 * @typedef {object} RunOptions
 * @property {string | string[]} [node] the node beside which the program runs: `http://host:port`,
 *   `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
 * @property {string} [instance] the name of the instance; the program's own unless it is said
 * @property {unknown[]} [initial] what `onStart` is given at the very first input
 * @property {string} [token] where logins are demanded, for addresses with TLS; without it
 *   `AMRITA_TOKEN` in the environment
 * @property {string} [ca] certificates in PEM of who has signed those of the nodes; without it the file
 *   that `AMRITA_CA_FILE` names
 * @property {Impulses} [impulses] where impulses are handed in, made beforehand
 * @property {AbortSignal} [signal] stops the program
 */
/** Why a program does not go on. */
export class RunError extends Error {
    /**
     * @param {"REFUSED" | "FAULT"} kind
     * @param {string} message
     * @param {{code?: string, input?: number}} what `code`: of the node; `input`: at which it failed
     */
    constructor(kind: "REFUSED" | "FAULT", message: string, { code, input }: {
        code?: string;
        input?: number;
    });
    kind: "REFUSED" | "FAULT";
    code: string | undefined;
    input: number | undefined;
}
export type RunOptions = {
    /**
     * the node beside which the program runs: `http://host:port`,
     * `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
     */
    node?: string | string[] | undefined;
    /**
     * the name of the instance; the program's own unless it is said
     */
    instance?: string | undefined;
    /**
     * what `onStart` is given at the very first input
     */
    initial?: unknown[] | undefined;
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
     * where impulses are handed in, made beforehand
     */
    impulses?: Impulses | undefined;
    /**
     * stops the program
     */
    signal?: AbortSignal | undefined;
};
import { Impulses } from "./impulses.js";
