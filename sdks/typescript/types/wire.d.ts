/**
 * What a way to a node gives and how it fails; `wire-node.js` and `wire-fetch.js` are the two ways.
 *
 * @module
 */
/**
 * @typedef {object} WireRequest
 * @property {string} method
 * @property {string} target path and query, escaped
 * @property {Record<string, string>} headers
 * @property {string | undefined} body
 * @property {AbortSignal} signal
 * @property {() => void} onSent called as soon as the node may have got the request
 */
/**
 * @typedef {object} WireAnswer
 * @property {number} status
 * @property {(name: string) => string | undefined} header
 * @property {string} body
 */
/**
 * @typedef {object} WireOptions
 * @property {string} [ca] certificates in PEM that are believed (Node only; a browser has its own)
 */
/**
 * @typedef {object} Wire
 * @property {(address: URL, request: WireRequest) => Promise<WireAnswer>} ask
 * @property {() => void} close ends the connections that are idle
 */
/** No answer from a node. */
export class WireError extends Error {
    /**
     * @param {"notSent" | "broken"} kind `notSent`: the node surely did not get the request
     * @param {string} message
     */
    constructor(kind: "notSent" | "broken", message: string);
    kind: "notSent" | "broken";
}
/** How long it may take to connect to a node before the next one is tried. */
export const CONNECT_MILLIS_MAX: 1000;
/** No answer of a node is longer. */
export const ANSWER_BYTES_MAX: number;
export type WireRequest = {
    method: string;
    /**
     * path and query, escaped
     */
    target: string;
    headers: Record<string, string>;
    body: string | undefined;
    signal: AbortSignal;
    /**
     * called as soon as the node may have got the request
     */
    onSent: () => void;
};
export type WireAnswer = {
    status: number;
    header: (name: string) => string | undefined;
    body: string;
};
export type WireOptions = {
    /**
     * certificates in PEM that are believed (Node only; a browser has its own)
     */
    ca?: string | undefined;
};
export type Wire = {
    ask: (address: URL, request: WireRequest) => Promise<WireAnswer>;
    /**
     * ends the connections that are idle
     */
    close: () => void;
};
