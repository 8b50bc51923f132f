/**
 * What comes from outside: handed in on the primary, with word of what became of it.
 *
 * @module
 */

import { stringify } from "../json.js";
import { Writer } from "./bytes.js";
import { putMessage } from "./frames.js";
import { isHandling } from "./machine.js";

/** So many impulses may be on their way; who sends more waits. */
const IMPULSES_OPEN_MAX = 1 << 14;

/**
 * What became of an impulse. `logged`: it will be handled, exactly once, whatever dies; if it was
 * for the program itself, it is this input. `lost`: surely not logged, it may be sent again.
 * `unknown`: the connection ended before it was known; sent again it may be handled twice.
 *
 * @typedef {{kind: "logged", input: number} | {kind: "lost"} | {kind: "unknown"}} Fate
 */

/** @typedef {{write: (frame: import("./frames.js").Frame) => void, end: () => void}} Line */

/** Where impulses are handed in. It stays the same when the connection to the node is made anew. */
export class Impulses {
  /** @type {Line | undefined} */
  #line = undefined;
  #isPrimary = false;
  #isStopped = false;
  /** The last number given in this connection. */
  #number = 0;
  /** @type {Map<number, (fate: Fate) => void>} */
  #open = new Map();
  /** What the node said of each destination's room. @type {Map<string, number>} */
  #room = new Map();
  /** Who waits for a change of any of these. @type {Set<() => void>} */
  #waiting = new Set();

  /**
   * Hands in a message, and says what became of it. An empty destination is the program itself:
   * the usual way, because then its handler decides what to do with it. A message of a contract
   * does this with `.impulse(impulses)`.
   *
   * @param {string} to
   * @param {number} method
   * @param {unknown[] | Uint8Array} args
   * @returns {Promise<Fate>}
   */
  async send(to, method, args) {
    if (isHandling()) throw new Error("an impulse was sent from a handler: handlers fork or call");
    while (this.#open.size >= IMPULSES_OPEN_MAX && this.#isPrimary) await this.#change();
    const line = this.#line;
    if (line === undefined || !this.#isPrimary) return { kind: "lost" };
    const message = new Writer();
    const payload = args instanceof Uint8Array ? args : Buffer.from(stringify(args));
    putMessage(message, { type: "IMPULSE", method, payload });
    this.#number += 1;
    const number = this.#number;
    const fate = new Promise((resolve) => this.#open.set(number, resolve));
    line.write({ type: "IMPULSE", number, destination: to, message: message.take() });
    return fate;
  }

  /**
   * Hands in a message until it is logged: again when it was surely not, with a pause. When it is
   * not known, that is what is given back: to send it again may be twice.
   *
   * @param {import("./program.js").Message} message
   * @returns {Promise<Fate>}
   */
  async sendUntilLogged(message) {
    for (;;) {
      const fate = await message.impulse(this);
      if (fate.kind !== "lost" || this.#isStopped) return fate;
      await this.#change(this.#isPrimary ? 10 : 1_000);
    }
  }

  /** Whether impulses are taken now. */
  get isPrimary() {
    return this.#isPrimary;
  }

  get isStopped() {
    return this.#isStopped;
  }

  /**
   * Waits until this copy is the primary; false when the program was stopped instead.
   *
   * @returns {Promise<boolean>}
   */
  async untilPrimary() {
    while (!this.#isPrimary && !this.#isStopped) await this.#change();
    return this.#isPrimary;
  }

  /**
   * How many bytes a destination has room for, as the node said last; undefined when it said
   * nothing, and then there is room.
   *
   * @param {string} destination
   */
  room(destination) {
    return this.#room.get(destination);
  }

  /**
   * Waits until there is room for a destination: an impulse of the primary that is `lost` found none.
   *
   * @param {string} destination
   */
  async untilRoom(destination) {
    while (this.#room.get(destination) === 0 && !this.#isStopped) await this.#change();
  }

  /**
   * Ends the connection, and with it `run`. The instance lives on: started again, the program goes
   * on from here.
   */
  stop() {
    this.#isStopped = true;
    this.#line?.end();
    this.#changed();
  }

  /** Of the binding. @param {Line} line */
  connected(line) {
    this.#line = line;
    this.#number = 0;
    if (this.#isStopped) line.end();
  }

  /** Of the binding. @param {boolean} isPrimary */
  setPrimary(isPrimary) {
    this.#isPrimary = isPrimary;
    // The next term tells anew where there is none.
    this.#room.clear();
    this.#changed();
  }

  /** Of the binding: what was on its way is unknown. */
  disconnected() {
    this.#line = undefined;
    this.setPrimary(false);
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const tell of open) tell({ kind: "unknown" });
  }

  /** Of the binding. @param {import("./frames.js").Frame} frame */
  told({ number, fate, input }) {
    const tell = this.#open.get(number);
    this.#open.delete(number);
    if (fate === 0) tell?.({ kind: "logged", input });
    else tell?.({ kind: fate === 1 ? "lost" : "unknown" });
    this.#changed();
  }

  /** Of the binding. @param {import("./frames.js").Frame} frame */
  credit({ destination, bytes }) {
    this.#room.set(destination, bytes);
    this.#changed();
  }

  /** Of the binding: waits so long, or until the program is to stop. @param {number} millis */
  async pause(millis) {
    for (const deadline = Date.now() + millis; !this.#isStopped;) {
      const left = deadline - Date.now();
      if (left <= 0) return;
      await this.#change(left);
    }
  }

  #changed() {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /**
   * @param {number} [millisMax]
   * @returns {Promise<void>}
   */
  #change(millisMax) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = millisMax === undefined ? undefined : setTimeout(wake, millisMax);
      this.#waiting.add(wake);
    });
  }
}
