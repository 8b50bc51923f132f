/**
 * What a program says, gathered into frames in the order in which it was said. Messages to one
 * destination that follow each other share one SEND; they are never put in another order.
 *
 * @module
 */

import { Writer } from "./bytes.js";
import { putFrame, putMessage } from "./frames.js";

/** No SEND is much longer, and no chunk of a checkpoint is longer. */
const FLUSH_BYTES = 64 << 10;

/** Room for the head of a SEND beside its messages. */
const SEND_HEAD_BYTES = 64;

export class Outputs {
  #frames = new Writer();
  #messages = new Writer();
  #destination = "";
  #count = 0;

  /** @param {number} frameBytesMax */
  constructor(frameBytesMax) {
    this.frameBytesMax = frameBytesMax;
    /** One chunk may be so long. */
    this.chunkBytes = Math.min(FLUSH_BYTES, frameBytesMax - SEND_HEAD_BYTES);
  }

  /**
   * @param {string} to
   * @param {import("./frames.js").Frame} message
   */
  send(to, message) {
    const length = (message.payload?.length ?? 0) + Buffer.byteLength(to) + SEND_HEAD_BYTES;
    if (length > this.frameBytesMax) {
      throw new RangeError(
        `a message of ${length} bytes is too long: a frame has at most ${this.frameBytesMax}`,
      );
    }
    const isFull = this.#count > 0 && this.#messages.length + length > this.chunkBytes;
    if (isFull || to !== this.#destination) this.#close();
    this.#destination = to;
    this.#count += 1;
    putMessage(this.#messages, message);
  }

  /**
   * A frame after all that was said so far.
   *
   * @param {import("./frames.js").Frame} frame
   */
  frame(frame) {
    this.#close();
    putFrame(this.#frames, frame);
  }

  /** All that was said, as bytes to be written. */
  take() {
    this.#close();
    return this.#frames.take();
  }

  #close() {
    if (this.#count === 0) return;
    const send = {
      type: "SEND",
      destination: this.#destination,
      count: this.#count,
      messages: this.#messages.take(),
    };
    this.#count = 0;
    putFrame(this.#frames, send);
  }
}
