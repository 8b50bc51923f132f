/** @typedef {{socket: import("node:net").Socket, head: Buffer}} Connected */
/**
 * Where a program asks for an upgrade, and for which protocol.
 *
 * @typedef {{path: string, protocol: string}} Door
 */
/**
 * @param {string} instance
 * @returns {Door}
 */
export function doorOfInstance(instance: string): Door;
/**
 * @param {string} factory
 * @returns {Door}
 */
export function doorOfKind(factory: string): Door;
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
/**
 * What is shown to nodes with TLS, and who has signed their certificates. Without these the environment
 * says so: `AMRITA_TOKEN`, and the file that `AMRITA_CA_FILE` names.
 *
 * @typedef {{token?: string, ca?: string}} Trust `ca`: certificates in PEM
 */
/** The nodes that a program may attach to. */
export class Dial {
    /**
     * @param {string | string[]} nodes each `http://host:port`, `https://host:port`, a socket, or the
     *   sandbox that has it; of several the first is taken that is there
     * @param {Trust} [trust]
     */
    constructor(nodes: string | string[], trust?: Trust);
    places: (string | URL)[];
    /**
     * @param {Door} door
     * @returns {Promise<Connected>}
     */
    connect(door: Door): Promise<Connected>;
    /** The node that was reached does not take the program: another one is tried first. */
    turnToTheNext(): void;
    #private;
}
export type Connected = {
    socket: import("node:net").Socket;
    head: Buffer;
};
/**
 * Where a program asks for an upgrade, and for which protocol.
 */
export type Door = {
    path: string;
    protocol: string;
};
/**
 * `ca`: certificates in PEM
 */
export type Trust = {
    token?: string;
    ca?: string;
};
