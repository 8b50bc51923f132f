/** @returns {boolean} whether a handler is running now */
export function isHandling(): boolean;
/**
 * Who sent the inputs of a block.
 *
 * @param {{kind: number, name: string}} block
 * @returns {Sender}
 */
export function senderOf({ kind, name }: {
    kind: number;
    name: string;
}): Sender;
/**
 * A value as it goes over the wire.
 *
 * @param {unknown} value
 * @returns {[number, Buffer]}
 */
export function toPayload(value: unknown): [number, Buffer];
/**
 * @typedef {object} Sender who sent an input
 * @property {string} name an instance, `client/...`, or empty for the node
 * @property {"node" | "instance" | "outside"} kind
 */
/**
 * @typedef {object} Place what is known of an input beside its message
 * @property {string} me
 * @property {number} input
 * @property {number} time microseconds since 1970
 * @property {Sender} sender
 */
/** @typedef {{id: number, name: string, argument: unknown}} Job an effect that is to be done */
/** Somebody waits for an answer, or nobody does. May be kept in the state. @typedef {{to: string, id: number | bigint} | null} Reply */
/** What came of a call, a timer or an effect. */
export class Outcome {
    /**
     * @param {number} status
     * @param {Buffer} payload
     */
    constructor(status: number, payload: Buffer);
    status: number;
    /** For those who do without JSON. */
    bytes: Buffer<ArrayBufferLike>;
    get isError(): boolean;
    /** Why there is no value; empty when there is one. */
    get error(): string;
    /**
     * The value; undefined when it was done without one.
     *
     * @template [T=any]
     * @param {import("./values.js").Value<T>} [as] what it must be
     * @returns {T}
     * @throws {Refused} what the other side said, or that the value is another
     */
    value<T = any>(as?: import("./values.js").Value<T>): T;
}
/** What a handler may know and do. All of it is the same on every copy and in every replay. */
export class Context {
    /**
     * @param {Machine} machine
     * @param {Place} place
     * @param {import("./outputs.js").Outputs} outputs
     * @param {number | bigint | undefined} call the id of the call that is being handled
     */
    constructor(machine: Machine, place: Place, outputs: import("./outputs.js").Outputs, call: number | bigint | undefined);
    /** The name of this instance. */
    get me(): string;
    /** The number of this input, from 1 over the whole life of the instance. */
    get input(): number;
    /** Who sent this input. */
    get sender(): Sender;
    /** When this input was logged, in milliseconds since 1970. Stands still in a handler, never goes back. */
    now(): number;
    /** As `now`, in microseconds. */
    nowMicros(): number;
    /**
     * A number from 0 below 1 that looks like chance and is the same on every copy. Nothing for keys
     * and passwords: who knows the instance's name can tell it in advance.
     */
    random(): number;
    /**
     * A whole number from 0 below a bound.
     *
     * @param {number} bound
     */
    randomBelow(bound: number): number;
    /**
     * Sends a message that needs no answer; a message of a contract does this with `.fork(context)`.
     *
     * @param {string} to
     * @param {number | bigint} method
     * @param {Uint8Array} payload
     */
    fork(to: string, method: number | bigint, payload: Uint8Array): void;
    /**
     * Sends a message and goes on with `next` when its answer comes.
     *
     * @param {string} to
     * @param {number | bigint} method
     * @param {Uint8Array} payload
     * @param {string} next
     * @param {unknown} [kept]
     * @returns {number} for `cancel`
     */
    call(to: string, method: number | bigint, payload: Uint8Array, next: string, kept?: unknown): number;
    /**
     * Goes on with `next` after so many milliseconds, measured by the inputs' time.
     *
     * @param {number} millis
     * @param {string} next
     * @param {unknown} [kept]
     * @returns {number} for `cancel`
     */
    after(millis: number, next: string, kept?: unknown): number;
    /**
     * Goes on with `next` at this time, or at once if it is past.
     *
     * @param {number | Date} moment milliseconds since 1970
     * @param {string} next
     * @param {unknown} [kept]
     * @returns {number} for `cancel`
     */
    at(moment: number | Date, next: string, kept?: unknown): number;
    /**
     * Has an effect done on the primary, and goes on with `next` when its result is logged.
     *
     * @param {string} name
     * @param {unknown} argument
     * @param {string} next
     * @param {unknown} [kept]
     * @returns {number} for `cancel`
     */
    effect(name: string, argument: unknown, next: string, kept?: unknown): number;
    /**
     * Waits no more. True if it was still waited for: then it surely does not go on with it.
     *
     * @param {number} id
     */
    cancel(id: number): boolean;
    /**
     * The answer comes later: what the handler gives back is no answer then. The reply is kept in the
     * state, or as what a `next` keeps, and given to `answer`.
     *
     * @returns {Reply}
     */
    reply(): Reply;
    /**
     * Gives the answer that somebody waits for.
     *
     * @param {Reply} reply
     * @param {unknown} answer a value; a `Refused` is an error; undefined: done, without a value
     */
    answer(reply: Reply, answer: unknown): void;
    /** Asks the node to take a checkpoint soon, after a lot of state has gone for example. */
    askForCheckpoint(): void;
    /**
     * Answers the call that is being handled, unless the answer comes later.
     *
     * @param {unknown} answer
     */
    finish(answer: unknown): void;
    /**
     * A message that makes no sense. A caller is told; of others a line is left on standard error.
     *
     * @param {Refused} why
     */
    refuse(why: Refused): void;
    #private;
}
/** A program of one version, with its state. */
export class Machine {
    /** @param {import("./program.js").Program<any>} program */
    static fresh(program: import("./program.js").Program<any>): Machine;
    /**
     * @param {Buffer} bytes
     * @param {import("./program.js").Program<any>} program of this version, or of the one that it can become
     */
    static load(bytes: Buffer, program: import("./program.js").Program<any>): Machine;
    /**
     * @param {import("./program.js").Program<any>} program
     * @param {any} state
     * @param {Book} book
     */
    constructor(program: import("./program.js").Program<any>, state: any, book: Book);
    program: import("./program.js").Program<any>;
    state: any;
    book: Book;
    /** The input that is being handled, or was handled last. */
    input: number;
    /** @type {number[]} the effects that were asked for since `takeEffects` */
    newEffects: number[];
    /**
     * Handles one input.
     *
     * @param {Place} place
     * @param {import("./outputs.js").Outputs} outputs
     * @param {import("./frames.js").Frame} message
     */
    message(place: Place, outputs: import("./outputs.js").Outputs, message: import("./frames.js").Frame): void;
    /** @returns {Buffer} */
    save(): Buffer;
    /** @returns {Job[]} the effects that were asked for since this was called last */
    takeEffects(): Job[];
    /** @returns {Job[]} all effects without a result */
    allEffects(): Job[];
    #private;
}
/**
 * who sent an input
 */
export type Sender = {
    /**
     * an instance, `client/...`, or empty for the node
     */
    name: string;
    kind: "node" | "instance" | "outside";
};
/**
 * what is known of an input beside its message
 */
export type Place = {
    me: string;
    input: number;
    /**
     * microseconds since 1970
     */
    time: number;
    sender: Sender;
};
/**
 * an effect that is to be done
 */
export type Job = {
    id: number;
    name: string;
    argument: unknown;
};
/**
 * Somebody waits for an answer, or nobody does. May be kept in the state.
 */
export type Reply = {
    to: string;
    id: number | bigint;
} | null;
import { Refused } from "./values.js";
import { Book } from "./book.js";
