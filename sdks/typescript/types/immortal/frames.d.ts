/**
 * @param {Writer} out
 * @param {Frame} frame
 */
export function putFrame(out: Writer, frame: Frame): void;
/**
 * A message with its length, as it stands in a SEND, an IMPULSE or a block.
 *
 * @param {Writer} out
 * @param {Frame} message
 */
export function putMessage(out: Writer, message: Frame): void;
/**
 * A frame without its length.
 *
 * @param {Buffer} bytes
 */
export function readFrame(bytes: Buffer): Frame;
/**
 * The messages that follow one another.
 *
 * @param {Buffer} bytes
 * @returns {Generator<Frame, void, void>}
 */
export function readMessages(bytes: Buffer): Generator<Frame, void, void>;
/** @typedef {{kind: number, name: string, first: number, messages: Frame[]}} Block */
/**
 * The blocks of a DELIVER.
 *
 * @param {Buffer} bytes
 * @returns {Block[]}
 */
export function readBlocks(bytes: Buffer): Block[];
/**
 * @param {Writer} out
 * @param {Block} block
 */
export function putBlock(out: Writer, { kind, name, first, messages: all }: Block): void;
/** The version of the protocol that is spoken here. */
export const VERSION: 1;
/** The first thing in a HELLO. */
export const MAGIC: "amrita-immortal";
/** The longest frame before WELCOME. */
export const HELLO_BYTES_MAX: number;
/** What an answer or a result is. */
export const STATUS: Readonly<{
    value: 1;
    empty: 2;
    error: 3;
}>;
/** From whom the inputs of a block are. */
export const SOURCE: Readonly<{
    node: 0;
    instance: 1;
    impulses: 2;
}>;
/** Cuts what comes from a socket into frames. */
export class Splitter {
    /** Longer frames are an error. */
    frameBytesMax: number;
    /** @param {Buffer} bytes */
    add(bytes: Buffer): void;
    /** @returns {{frame: Frame, length: number} | undefined} */
    next(): {
        frame: Frame;
        length: number;
    } | undefined;
    #private;
}
export type Block = {
    kind: number;
    name: string;
    first: number;
    messages: Frame[];
};
export type FieldType = "n" | "z" | "s" | "u8" | "u32" | "rest";
export type Row = [number, string, [string, FieldType][]];
/**
 * a frame, or a message
 */
export type Frame = {
    type: string;
    [field: string]: any;
};
import { Writer } from "./bytes.js";
