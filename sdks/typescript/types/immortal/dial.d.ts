/** The connection broke, or was not made. */
export class LostError extends Error {
}
/** The node does not take the program, and says why. */
export class SaidError extends Error {
    /**
     * @param {string} code
     * @param {string} text
     */
    constructor(code: string, text: string);
    code: string;
    text: string;
}
/** @typedef {{socket: import("node:net").Socket, head: Buffer}} Connected */
/** The nodes that a program may attach to. */
export class Dial {
    /**
     * @param {string | string[]} nodes each `http://host:port`, a socket, or the sandbox that has it;
     *   of several the first is taken that is there
     * @param {string} [token]
     */
    constructor(nodes: string | string[], token?: string);
    places: (string | URL)[];
    /**
     * @param {string} instance
     * @returns {Promise<Connected>}
     */
    connect(instance: string): Promise<Connected>;
    /** The node that was reached does not take the program: another one is tried first. */
    turnToTheNext(): void;
    #private;
}
export type Connected = {
    socket: import("node:net").Socket;
    head: Buffer;
};
