/**
 * The frames of `api/service-protocol.md`: bytes to values and back.
 *
 * @module
 */

import { GarbledError, Reader, Writer } from "../immortal/bytes.js";

/** The version of the protocol that is spoken here. */
export const VERSION = 2;

/** The first thing in a SERVE. */
export const MAGIC = "amrita-service";

/** The longest frame before WELCOME. */
export const FRAME_BYTES_MAX = 64 << 10;

/** Handlers, by their numbers. */
const HANDLERS = /** @type {const} */ (["create", "put", "patch", "delete", "action"]);

const [SERVE, ANSWER, LEAVE, PONG] = [0x21, 0x22, 0x23, 0x0d];
const [WELCOME, CALL, PING, ERROR] = [0xa1, 0xa2, 0x8d, 0xff];

/** What became of a call. */
const [STATE, AS_IT_IS, REFUSED, FAILED, SENDING] = [1, 2, 3, 4, 5];

/**
 * To an immortal, with the version that is being made.
 *
 * @typedef {{instance: string, method: number, payload: Uint8Array}} Sent
 */

/**
 * @typedef {object} CallFrame
 * @property {"CALL"} type
 * @property {number | bigint} number
 * @property {(typeof HANDLERS)[number]} handler
 * @property {string} action
 * @property {string} link
 * @property {number} version
 * @property {number} time microseconds since 1970
 * @property {string} user
 * @property {string} before JSON, or nothing
 * @property {string} after
 * @property {string} body
 */

/**
 * @typedef {CallFrame
 *   | {type: "WELCOME", version: number, node: string, frameBytesMax: number}
 *   | {type: "PING", number: number | bigint}
 *   | {type: "ERROR", code: string, text: string}} FromNode
 */

/**
 * @param {number} type
 * @param {(out: Writer) => void} body
 * @returns {Buffer}
 */
function frame(type, body) {
  const rest = new Writer();
  rest.u8(type);
  body(rest);
  const out = new Writer();
  out.u32(rest.length);
  out.rest(rest.view());
  return out.take();
}

/** @param {{link: string, version: string, callsMax: number, handlers: string[], actions: string[]}} what */
export function serve({ link, version, callsMax, handlers, actions }) {
  return frame(SERVE, (out) => {
    out.s(MAGIC);
    out.n(VERSION);
    out.n(VERSION);
    out.s(link);
    out.s(version);
    out.n(callsMax);
    for (const names of [handlers, actions]) {
      out.n(names.length);
      for (const name of names) out.s(name);
    }
  });
}

/**
 * The state that is to be written; without one, what the node would write.
 *
 * @param {number | bigint} call
 * @param {string | undefined} json
 * @param {Sent[]} [messages]
 */
export function written(call, json, messages = []) {
  return frame(ANSWER, (out) => {
    out.n(call);
    if (messages.length > 0) {
      out.u8(SENDING);
      out.n(messages.length);
      for (const { instance, method, payload } of messages) {
        out.s(instance);
        out.z(method);
        out.b(payload);
      }
    }
    out.u8(json === undefined ? AS_IT_IS : STATE);
    if (json !== undefined) out.rest(Buffer.from(json));
  });
}

/**
 * @param {number | bigint} call
 * @param {number} status
 * @param {string} message
 */
export function refused(call, status, message) {
  return frame(ANSWER, (out) => {
    out.n(call);
    out.u8(REFUSED);
    out.n(status);
    out.s(message);
  });
}

/**
 * @param {number | bigint} call
 * @param {string} message
 */
export function failed(call, message) {
  return frame(ANSWER, (out) => {
    out.n(call);
    out.u8(FAILED);
    out.s(message);
  });
}

export function leave() {
  return frame(LEAVE, () => {});
}

/** @param {number | bigint} number */
export function pong(number) {
  return frame(PONG, (out) => out.n(number));
}

/**
 * @param {Buffer} bytes a frame of a node, without its length
 * @returns {FromNode}
 */
export function read(bytes) {
  const from = new Reader(bytes);
  const type = from.u8();
  // More may be said here than this version knows.
  if (type === WELCOME)
    return { type: "WELCOME", version: from.n(), node: from.s(), frameBytesMax: from.n() };
  if (type === ERROR) return { type: "ERROR", code: from.s(), text: from.s() };
  /** @type {FromNode} */
  let said;
  if (type === PING) said = { type: "PING", number: from.n() };
  else if (type === CALL) said = call(from);
  else throw new GarbledError(`there is no frame of the type 0x${type.toString(16)}`);
  if (!from.isEmpty)
    throw new GarbledError(`a frame of the type 0x${type.toString(16)} goes on behind its last field`);
  return said;
}

/**
 * @param {Reader} from
 * @returns {CallFrame}
 */
function call(from) {
  const number = from.n();
  const handler = HANDLERS[from.u8()];
  if (handler === undefined) throw new GarbledError("there is no such handler");
  const [action, link, version, time, user] = [from.s(), from.s(), from.n(), from.n(), from.s()];
  const [before, after, body] = [from.s(), from.s(), from.s()];
  return { type: "CALL", number, handler, action, link, version, time, user, before, after, body };
}

/** Cuts what comes into frames. */
export class Splitter {
  /** @type {Buffer[]} */
  #pieces = [];
  #length = 0;
  /** Longer frames are an error. */
  frameBytesMax = FRAME_BYTES_MAX;

  /** @param {Buffer} bytes */
  add(bytes) {
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }

  /** @returns {FromNode | undefined} */
  next() {
    if (this.#length < 4) return undefined;
    const head = this.#pieces[0].length < 4 ? this.#whole() : this.#pieces[0];
    const length = head.readUInt32LE(0);
    if (length === 0 || length > this.frameBytesMax) {
      throw new GarbledError(
        `a frame of ${length} bytes; it may have from 1 to ${this.frameBytesMax}`,
      );
    }
    if (this.#length < 4 + length) return undefined;
    const whole = this.#whole();
    this.#pieces = [whole.subarray(4 + length)];
    this.#length -= 4 + length;
    return read(whole.subarray(4, 4 + length));
  }

  #whole() {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0];
  }
}
