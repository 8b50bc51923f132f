/** @param {{link: string, version: string, callsMax: number, handlers: string[], actions: string[]}} what */
export function serve({ link, version, callsMax, handlers, actions }: {
    link: string;
    version: string;
    callsMax: number;
    handlers: string[];
    actions: string[];
}): Buffer<ArrayBufferLike>;
/**
 * The state that is to be written; without one, what the node would write.
 *
 * @param {number | bigint} call
 * @param {string | undefined} json
 * @param {Sent[]} [messages]
 */
export function written(call: number | bigint, json: string | undefined, messages?: Sent[]): Buffer<ArrayBufferLike>;
/**
 * @param {number | bigint} call
 * @param {number} status
 * @param {string} message
 */
export function refused(call: number | bigint, status: number, message: string): Buffer<ArrayBufferLike>;
/**
 * @param {number | bigint} call
 * @param {string} message
 */
export function failed(call: number | bigint, message: string): Buffer<ArrayBufferLike>;
export function leave(): Buffer<ArrayBufferLike>;
/** @param {number | bigint} number */
export function pong(number: number | bigint): Buffer<ArrayBufferLike>;
/**
 * @param {Buffer} bytes a frame of a node, without its length
 * @returns {FromNode}
 */
export function read(bytes: Buffer): FromNode;
/** The version of the protocol that is spoken here. */
export const VERSION: 2;
/** The first thing in a SERVE. */
export const MAGIC: "amrita-service";
/** The longest frame before WELCOME. */
export const FRAME_BYTES_MAX: number;
/** Cuts what comes into frames. */
export class Splitter {
    /** Longer frames are an error. */
    frameBytesMax: number;
    /** @param {Buffer} bytes */
    add(bytes: Buffer): void;
    /** @returns {FromNode | undefined} */
    next(): FromNode | undefined;
    #private;
}
/**
 * To an immortal, with the version that is being made.
 */
export type Sent = {
    instance: string;
    method: number;
    payload: Uint8Array;
};
export type CallFrame = {
    type: "CALL";
    number: number | bigint;
    handler: (typeof HANDLERS)[number];
    action: string;
    link: string;
    version: number;
    /**
     * microseconds since 1970
     */
    time: number;
    user: string;
    /**
     * JSON, or nothing
     */
    before: string;
    after: string;
    body: string;
};
export type FromNode = CallFrame | {
    type: "WELCOME";
    version: number;
    node: string;
    frameBytesMax: number;
} | {
    type: "PING";
    number: number | bigint;
} | {
    type: "ERROR";
    code: string;
    text: string;
};
/** Handlers, by their numbers. */
declare const HANDLERS: readonly ["create", "put", "patch", "delete", "action"];
export {};
