/**
 * The checksum of IEEE.
 *
 * @param {Uint8Array} bytes
 */
export function crc32(bytes: Uint8Array): number;
/** What the node sent is not what the protocol says. */
export class GarbledError extends Error {
}
/** Bytes that grow. */
export class Writer {
    length: number;
    /** @param {number} byte */
    u8(byte: number): void;
    /** @param {number} number */
    u32(number: number): void;
    /** @param {number | bigint} number */
    n(number: number | bigint): void;
    /** @param {number | bigint} number */
    z(number: number | bigint): void;
    /** @param {Uint8Array} bytes */
    rest(bytes: Uint8Array): void;
    /** @param {Uint8Array} bytes */
    b(bytes: Uint8Array): void;
    /** @param {string} text */
    s(text: string): void;
    /** What was written so far; good until the next thing is written. */
    view(): Buffer<ArrayBufferLike>;
    /** What was written so far; the writer begins anew. */
    take(): Buffer<ArrayBufferLike>;
    #private;
}
/** Takes one thing after the other from the front of some bytes. */
export class Reader {
    /** @param {Buffer} bytes */
    constructor(bytes: Buffer);
    bytes: Buffer<ArrayBufferLike>;
    at: number;
    get isEmpty(): boolean;
    /** @param {number} count */
    take(count: number): Buffer<ArrayBufferLike>;
    u8(): number;
    u32(): number;
    /**
     * A `bigint` only where a `number` would not be exact.
     *
     * @returns {any} a number, or a bigint
     */
    n(): any;
    /** @returns {any} a number, or a bigint */
    z(): any;
    b(): Buffer<ArrayBufferLike>;
    s(): string;
    rest(): Buffer<ArrayBufferLike>;
}
