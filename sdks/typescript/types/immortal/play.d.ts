/** @typedef {{kind: number, name: string, message: import("./frames.js").Frame, time: number}} Input */
/**
 * @typedef {object} Said
 * @property {string} to the destination; empty for the program itself
 * @property {"fork" | "call" | "answer"} kind
 * @property {number} [method]
 * @property {any} value the arguments, the body of a write, or the answer
 * @property {number} [id]
 * @property {string} [error] of an answer
 */
/** @template {object} S */
export class Play<S extends object> {
    /**
     * @param {import("./program.js").Program<S>} program
     * @param {{instance?: string, initial?: unknown[]}} [options]
     */
    constructor(program: import("./program.js").Program<S>, { instance, initial }?: {
        instance?: string;
        initial?: unknown[];
    });
    /** The state as it is. @returns {S} */
    get state(): S;
    /** All that was said, in order. @returns {readonly Said[]} */
    get said(): readonly Said[];
    /** The effects that wait for a result. */
    get effects(): import("./machine.js").Job[];
    /**
     * An instance sends a message and wants no answer.
     *
     * @param {string} from
     * @param {import("./program.js").Message} message
     */
    fork(from: string, { method, payload }: import("./program.js").Message): void;
    /**
     * An instance calls.
     *
     * @param {string} from
     * @param {import("./program.js").Message} message
     * @returns {number} for `answerTo`
     */
    call(from: string, { method, payload }: import("./program.js").Message): number;
    /**
     * Somebody outside sends an impulse.
     *
     * @param {import("./program.js").Message} message
     * @param {string} [from]
     */
    impulse({ method, payload }: import("./program.js").Message, from?: string): void;
    /**
     * The answer that was given to a call; undefined when there is none so far.
     *
     * @param {number} call
     */
    answerTo(call: number): Said | undefined;
    /**
     * Another instance answers a call of the program.
     *
     * @param {Said} call as it stands in `said`
     * @param {unknown} answer a value, or a `Refused`
     */
    answer(call: Said, answer: unknown): void;
    /**
     * An effect gives this result.
     *
     * @param {number} id
     * @param {unknown} result a value, or a `Refused`
     */
    perform(id: number, result: unknown): void;
    /**
     * Time goes by, and timers fire.
     *
     * @param {number} millis
     */
    wait(millis: number): void;
    /**
     * The upgrade to another version of the program comes, as an input among the others.
     *
     * @param {number} version
     */
    upgrade(version: number): void;
    /** A checkpoint is taken. */
    checkpoint(): void;
    /** The program dies, and is there again from the last checkpoint and the log. */
    crash(): void;
    /**
     * Runs all inputs again, from the first state and from a checkpoint at each place in between, and
     * compares what is said and the state at the end.
     *
     * @throws {Error} where it is another
     */
    check(): void;
    #private;
}
export type Input = {
    kind: number;
    name: string;
    message: import("./frames.js").Frame;
    time: number;
};
export type Said = {
    /**
     * the destination; empty for the program itself
     */
    to: string;
    kind: "fork" | "call" | "answer";
    method?: number | undefined;
    /**
     * the arguments, the body of a write, or the answer
     */
    value: any;
    id?: number | undefined;
    /**
     * of an answer
     */
    error?: string | undefined;
};
