/**
 * What a program waits for: the binding's own part of the state.
 *
 * @module
 */

/**
 * @typedef {object} Waiting
 * @property {"answer" | "timer" | "effect"} what
 * @property {string} [from] of an answer: the instance, empty for itself
 * @property {string} [effect] its name
 * @property {unknown} [argument] of an effect
 * @property {string} next what to go on with
 * @property {unknown} kept what was remembered until then
 */

export class Book {
  /** The last id given. Timers, calls and effects share one row of numbers. */
  lastId = 0;
  /** @type {Map<number, Waiting>} */
  waiting = new Map();

  /** @param {Waiting} waiting */
  enter(waiting) {
    this.lastId += 1;
    this.waiting.set(this.lastId, waiting);
    return this.lastId;
  }

  /**
   * What came is waited for no more. Undefined when it was cancelled, or never was.
   *
   * @param {number} id
   * @param {(waiting: Waiting) => boolean} isRight
   */
  strike(id, isRight) {
    const waiting = this.waiting.get(id);
    if (waiting === undefined || !isRight(waiting)) return undefined;
    this.waiting.delete(id);
    return waiting;
  }

  /** @returns {[number, Waiting][]} the effects that have no result yet */
  effects() {
    return [...this.waiting].filter(([, { what }]) => what === "effect");
  }
}
