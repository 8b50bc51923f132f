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
    lastId: number;
    /** @type {Map<number, Waiting>} */
    waiting: Map<number, Waiting>;
    /** @param {Waiting} waiting */
    enter(waiting: Waiting): number;
    /**
     * What came is waited for no more. Undefined when it was cancelled, or never was.
     *
     * @param {number} id
     * @param {(waiting: Waiting) => boolean} isRight
     */
    strike(id: number, isRight: (waiting: Waiting) => boolean): Waiting | undefined;
    /** @returns {[number, Waiting][]} the effects that have no result yet */
    effects(): [number, Waiting][];
}
export type Waiting = {
    what: "answer" | "timer" | "effect";
    /**
     * of an answer: the instance, empty for itself
     */
    from?: string | undefined;
    /**
     * its name
     */
    effect?: string | undefined;
    /**
     * of an effect
     */
    argument?: unknown;
    /**
     * what to go on with
     */
    next: string;
    /**
     * what was remembered until then
     */
    kept: unknown;
};
