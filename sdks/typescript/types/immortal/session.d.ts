/** The program failed at this input. */
export class FaultError extends Error {
    /**
     * @param {number} input
     * @param {string} text
     */
    constructor(input: number, text: string);
    input: number;
}
/**
 * @typedef {object} Plan
 * @property {string} instance
 * @property {import("./program.js").Program<any>} program
 * @property {Buffer} initial the payload of the START input
 * @property {import("./impulses.js").Impulses} impulses
 */
export class Session {
    /**
     * @param {Plan} plan
     * @param {import("node:net").Socket} socket
     */
    constructor(plan: Plan, socket: import("node:net").Socket);
    /** It came as far as the end of replay: the program works. */
    caughtUp: boolean;
    /**
     * Runs until the connection ends.
     *
     * @param {Buffer} head what came with the answer to an upgrade
     * @returns {Promise<Error>} why it ended
     */
    run(head: Buffer): Promise<Error>;
    #private;
}
export type Plan = {
    instance: string;
    program: import("./program.js").Program<any>;
    /**
     * the payload of the START input
     */
    initial: Buffer;
    impulses: import("./impulses.js").Impulses;
};
