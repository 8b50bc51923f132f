/**
 * Frames and messages as tables, from which both directions are read and written:
 * api/immortal-protocol.md, sections 3 and 4. Pure.
 *
 * @module
 */

import { GarbledError, Reader, Writer } from "./bytes.js";

/** The version of the protocol that is spoken here. */
export const VERSION = 1;

/** The first thing in a HELLO. */
export const MAGIC = "amrita-immortal";

/** The longest frame before WELCOME. */
export const HELLO_BYTES_MAX = 64 << 10;

/** @typedef {"n" | "z" | "s" | "u8" | "u32" | "rest"} FieldType */
/** @typedef {[number, string, [string, FieldType][]]} Row */

/** @type {Row[]} */
const FRAMES = [
  [
    0x01,
    "HELLO",
    [
      ["magic", "s"],
      ["versionMin", "n"],
      ["versionMax", "n"],
      ["instance", "s"],
      ["programVersion", "n"],
      ["upgradeTo", "n"],
    ],
  ],
  [
    0x02,
    "SEND",
    [
      ["destination", "s"],
      ["count", "n"],
      ["messages", "rest"],
    ],
  ],
  [
    0x03,
    "AWAIT",
    [
      ["id", "n"],
      ["due", "n"],
    ],
  ],
  [0x04, "CANCEL", [["id", "n"]]],
  [0x05, "DONE", [["input", "n"]]],
  [
    0x06,
    "IMPULSE",
    [
      ["number", "n"],
      ["destination", "s"],
      ["message", "rest"],
    ],
  ],
  [
    0x07,
    "RESULT",
    [
      ["id", "n"],
      ["status", "u8"],
      ["payload", "rest"],
    ],
  ],
  [0x08, "CHECKPOINT", [["request", "n"]]],
  [0x09, "CHUNK", [["bytes", "rest"]]],
  [0x0a, "CHECKPOINT_END", [["crc", "u32"]]],
  [0x0b, "INITIAL", [["payload", "rest"]]],
  [0x0c, "ASK_CHECKPOINT", []],
  [0x0d, "PONG", [["number", "n"]]],
  [
    0x0e,
    "FAULT",
    [
      ["input", "n"],
      ["text", "s"],
    ],
  ],
  [
    0x81,
    "WELCOME",
    [
      ["version", "n"],
      ["node", "s"],
      ["replica", "n"],
      ["frameBytesMax", "n"],
      ["windowBytes", "n"],
      ["stateVersion", "n"],
    ],
  ],
  [0x82, "GENESIS", []],
  [
    0x83,
    "LOAD",
    [
      ["input", "n"],
      ["bytes", "n"],
    ],
  ],
  [0x84, "LOADED", [["bytes", "rest"]]],
  [0x85, "LOAD_END", [["crc", "u32"]]],
  [
    0x86,
    "DELIVER",
    [
      ["first", "n"],
      ["time", "n"],
      ["blocks", "rest"],
    ],
  ],
  [0x87, "END_OF_REPLAY", [["input", "n"]]],
  [0x88, "PRIMARY", [["term", "n"]]],
  [0x89, "STANDBY", []],
  [0x8a, "TAKE_CHECKPOINT", [["request", "n"]]],
  [
    0x8b,
    "FATE",
    [
      ["number", "n"],
      ["fate", "u8"],
      ["input", "n"],
    ],
  ],
  [
    0x8c,
    "CREDIT",
    [
      ["destination", "s"],
      ["bytes", "n"],
    ],
  ],
  [0x8d, "PING", [["number", "n"]]],
  [
    0xff,
    "ERROR",
    [
      ["code", "s"],
      ["text", "s"],
    ],
  ],
];

/** @type {Row[]} */
const MESSAGES = [
  [
    0,
    "FORK",
    [
      ["method", "z"],
      ["payload", "rest"],
    ],
  ],
  [
    1,
    "CALL",
    [
      ["id", "n"],
      ["method", "z"],
      ["payload", "rest"],
    ],
  ],
  [
    2,
    "ANSWER",
    [
      ["id", "n"],
      ["status", "u8"],
      ["payload", "rest"],
    ],
  ],
  [
    3,
    "IMPULSE",
    [
      ["method", "z"],
      ["payload", "rest"],
    ],
  ],
  [4, "START", [["payload", "rest"]]],
  [5, "TIMER", [["id", "n"]]],
  [
    6,
    "RESULT",
    [
      ["id", "n"],
      ["status", "u8"],
      ["payload", "rest"],
    ],
  ],
  [7, "UPGRADE", [["version", "n"]]],
  [8, "SKIPPED", []],
];

/** What an answer or a result is. */
export const STATUS = Object.freeze({ value: 1, empty: 2, error: 3 });

/** From whom the inputs of a block are. */
export const SOURCE = Object.freeze({ node: 0, instance: 1, impulses: 2 });

/** @typedef {{type: string, [field: string]: any}} Frame a frame, or a message */

const frames = tablesOf(FRAMES);
const messages = tablesOf(MESSAGES);

/** @param {Row[]} rows */
function tablesOf(rows) {
  return {
    byNumber: new Map(rows.map((row) => [row[0], row])),
    byName: new Map(rows.map((row) => [row[1], row])),
  };
}

/**
 * @param {Writer} out
 * @param {Frame} frame
 */
export function putFrame(out, frame) {
  const body = new Writer();
  putFields(body, frames, frame);
  out.u32(body.length);
  out.rest(body.view());
}

/**
 * A message with its length, as it stands in a SEND, an IMPULSE or a block.
 *
 * @param {Writer} out
 * @param {Frame} message
 */
export function putMessage(out, message) {
  const body = new Writer();
  putFields(body, messages, message);
  out.b(body.view());
}

/**
 * @param {Writer} out
 * @param {typeof frames} tables
 * @param {Frame} frame
 */
function putFields(out, tables, frame) {
  const row = tables.byName.get(frame.type);
  if (row === undefined) throw new TypeError(`there is no '${frame.type}'`);
  out.u8(row[0]);
  for (const [name, type] of row[2]) out[type](/** @type {never} */ (frame[name]));
}

/**
 * A frame without its length.
 *
 * @param {Buffer} bytes
 */
export function readFrame(bytes) {
  return readFields(new Reader(bytes), frames, "frame");
}

/**
 * The messages that follow one another.
 *
 * @param {Buffer} bytes
 * @returns {Generator<Frame, void, void>}
 */
export function* readMessages(bytes) {
  const reader = new Reader(bytes);
  while (!reader.isEmpty) yield readFields(new Reader(reader.b()), messages, "message");
}

/**
 * @param {Reader} reader
 * @param {typeof frames} tables
 * @param {string} what
 * @returns {Frame}
 */
function readFields(reader, tables, what) {
  const number = reader.u8();
  const row = tables.byNumber.get(number);
  if (row === undefined)
    throw new GarbledError(`a ${what} of type 0x${number.toString(16)} is not known`);
  /** @type {Frame} */
  const frame = { type: row[1] };
  for (const [name, type] of row[2]) frame[name] = reader[type]();
  return frame;
}

/** @typedef {{kind: number, name: string, first: number, messages: Frame[]}} Block */

/**
 * The blocks of a DELIVER.
 *
 * @param {Buffer} bytes
 * @returns {Block[]}
 */
export function readBlocks(bytes) {
  const reader = new Reader(bytes);
  const blocks = [];
  while (!reader.isEmpty) {
    const kind = reader.u8();
    if (kind > SOURCE.impulses) throw new GarbledError(`a block of kind ${kind} is not known`);
    const [name, first, count] = [reader.s(), reader.n(), reader.n()];
    const found = [...readMessages(reader.b())];
    if (found.length !== count)
      throw new GarbledError(`a block has ${found.length} messages and says ${count}`);
    blocks.push({ kind, name, first, messages: found });
  }
  return blocks;
}

/**
 * @param {Writer} out
 * @param {Block} block
 */
export function putBlock(out, { kind, name, first, messages: all }) {
  const body = new Writer();
  for (const message of all) putMessage(body, message);
  out.u8(kind);
  out.s(name);
  out.n(first);
  out.n(all.length);
  out.b(body.view());
}

/** Cuts what comes from a socket into frames. */
export class Splitter {
  /** @type {Buffer} */
  #bytes = Buffer.alloc(0);
  /** Longer frames are an error. */
  frameBytesMax = HELLO_BYTES_MAX;

  /** @param {Buffer} bytes */
  add(bytes) {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
  }

  /** @returns {{frame: Frame, length: number} | undefined} */
  next() {
    if (this.#bytes.length < 4) return undefined;
    const length = this.#bytes.readUInt32LE(0);
    if (length === 0 || length > this.frameBytesMax) {
      throw new GarbledError(
        `a frame of ${length} bytes; it may have from 1 to ${this.frameBytesMax}`,
      );
    }
    if (this.#bytes.length < 4 + length) return undefined;
    const frame = readFrame(this.#bytes.subarray(4, 4 + length));
    this.#bytes = this.#bytes.subarray(4 + length);
    return { frame, length };
  }
}
