/**
 * @template {any[]} A
 * @typedef {object} Method
 * @property {number} number
 * @property {{[I in keyof A]: import("./values.js").Value<A[I]>}} values
 */
/** @typedef {Record<string, Method<any>>} Methods */
/**
 * The arguments of a method.
 *
 * @template M
 * @typedef {M extends Method<infer A> ? A : never} ArgumentsOf
 */
/**
 * A method of a contract: its number, and what its arguments are. The number is what goes over the
 * wire and into the log: it is never given to another method, and a method with other arguments
 * gets a new one.
 *
 * @template {any[]} A
 * @param {number} number
 * @param {{[I in keyof A]: import("./values.js").Value<A[I]>}} values
 * @returns {Method<A>}
 */
export function method<A extends any[]>(number: number, ...values: { [I in keyof A]: import("./values.js").Value<A[I]>; }): Method<A>;
/**
 * @template {Methods} M
 * @param {M} methods
 * @returns {Contract<M>}
 */
export function contract<M extends Methods>(methods: M): Contract<M>;
/**
 * @template {object} S
 * @param {string} name
 * @param {() => S} fresh
 * @returns {Program<S>}
 */
export function program<S extends object>(name: string, fresh: () => S): Program<S>;
/**
 * The arguments of a message, as its method wants them.
 *
 * @param {{name: string, values: import("./values.js").Value<any>[]}} of
 * @param {unknown} args
 */
export function readArguments({ name, values }: {
    name: string;
    values: import("./values.js").Value<any>[];
}, args: unknown): any[];
/**
 * The messages that an instance understands.
 *
 * @template {Methods} M
 */
export class Contract<M extends Methods> {
    /** @param {M} methods */
    constructor(methods: M);
    /** @readonly */
    readonly methods: M;
    /**
     * An instance that understands them.
     *
     * @param {string} destination
     * @returns {{[N in keyof M]: (...args: ArgumentsOf<M[N]>) => Message}}
     */
    at(destination: string): { [N in keyof M]: (...args: ArgumentsOf<M[N]>) => Message; };
    /** The program itself. */
    me(): { [N in keyof M]: (...args: ArgumentsOf<M[N]>) => Message; };
}
/** A message that is made and not sent. */
export class Message {
    /**
     * @param {string} destination
     * @param {number} method
     * @param {unknown[]} args
     */
    constructor(destination: string, method: number, args: unknown[]);
    destination: string;
    method: number;
    payload: Buffer<ArrayBuffer>;
    /**
     * Sends it; no answer is wanted. It arrives once, whatever dies.
     *
     * @param {import("./machine.js").Context} context
     */
    fork(context: import("./machine.js").Context): void;
    /**
     * Sends it, and goes on with `next` when its answer comes.
     *
     * @param {import("./machine.js").Context} context
     * @param {string} next the name of a handler of `Program.next`
     * @param {unknown} [kept] what that handler is given beside the answer
     * @returns {number} for `context.cancel`
     */
    call(context: import("./machine.js").Context, next: string, kept?: unknown): number;
    /**
     * Hands it in from outside of the handlers, on the primary.
     *
     * @param {import("./impulses.js").Impulses} impulses
     * @returns {Promise<import("./impulses.js").Fate>}
     */
    impulse(impulses: import("./impulses.js").Impulses): Promise<import("./impulses.js").Fate>;
}
/**
 * @template S
 * @typedef {(state: S, context: import("./machine.js").Context, ...args: any[]) => unknown} AnyHandler
 */
/**
 * @template S
 * @typedef {(state: S, context: import("./machine.js").Context, outcome: import("./machine.js").Outcome, kept: any) => void} NextHandler
 */
/**
 * An effect: what touches the world and gives a result. Here, and only here, a clock, the network
 * and chance are allowed. `key` is the same when a new primary does it again: send it along, so
 * that the other side can recognize the repetition.
 *
 * @typedef {(argument: any, about: {key: string, signal: AbortSignal}) => Promise<unknown>} EffectHandler
 */
/**
 * A program that does not die: a state that is changed by its inputs and by nothing else.
 *
 * @template {object} S the state: plain objects, lists, Map, Set, Date, Uint8Array, `bigint`
 */
export class Program<S extends object> {
    /**
     * @param {string} name of the instance, unless the options of `run` say another
     * @param {() => S} fresh the state before the first input
     */
    constructor(name: string, fresh: () => S);
    /** @type {Map<number, {name: string, values: import("./values.js").Value<any>[], handler: AnyHandler<S>}>} */
    methods: Map<number, {
        name: string;
        values: import("./values.js").Value<any>[];
        handler: AnyHandler<S>;
    }>;
    /** @type {Map<string, NextHandler<S>>} */
    nexts: Map<string, NextHandler<S>>;
    /** @type {Map<string, EffectHandler>} */
    performers: Map<string, EffectHandler>;
    /** @type {(state: S, context: import("./machine.js").Context, args: any[]) => void} */
    started: (state: S, context: import("./machine.js").Context, args: any[]) => void;
    /** @type {(state: S, impulses: import("./impulses.js").Impulses) => void} */
    becamePrimary: (state: S, impulses: import("./impulses.js").Impulses) => void;
    /** @type {(state: S) => void} */
    becameStandby: (state: S) => void;
    /** The version of the state and the code. */
    number: number;
    /** @type {{to: Program<any>, convert: (state: S) => any} | undefined} */
    upgrade: {
        to: Program<any>;
        convert: (state: S) => any;
    } | undefined;
    name: string;
    fresh: () => S;
    /**
     * What it does with the messages of a contract. A handler changes the state, and gives the answer
     * back if there is one. It may throw `Refused`; any other error is a fault.
     *
     * @template {Methods} M
     * @param {Contract<M>} of
     * @param {{[N in keyof M]: (state: S, context: import("./machine.js").Context, ...args: ArgumentsOf<M[N]>) => unknown}} handlers
     * @returns {this}
     */
    handles<M extends Methods>(of: Contract<M>, handlers: { [N in keyof M]: (state: S, context: import("./machine.js").Context, ...args: ArgumentsOf<M[N]>) => unknown; }): this;
    /**
     * What to go on with when an answer comes, a timer fires or an effect is done, by name. The name
     * and what is kept stand in the checkpoint.
     *
     * @param {Record<string, NextHandler<S>>} handlers
     * @returns {this}
     */
    next(handlers: Record<string, NextHandler<S>>): this;
    /**
     * What is done outside, by name.
     *
     * @param {Record<string, EffectHandler>} performers
     * @returns {this}
     */
    effects(performers: Record<string, EffectHandler>): this;
    /**
     * The very first input of the instance, with the option `initial` of `run`.
     *
     * @param {(state: S, context: import("./machine.js").Context, args: any[]) => void} handler
     * @returns {this}
     */
    onStart(handler: (state: S, context: import("./machine.js").Context, args: any[]) => void): this;
    /**
     * This copy is the primary now: what comes from outside is taken in from here on. The state can
     * be looked at, not changed: the other copies know nothing of this moment.
     *
     * @param {(state: S, impulses: import("./impulses.js").Impulses) => void} handler
     * @returns {this}
     */
    onPrimary(handler: (state: S, impulses: import("./impulses.js").Impulses) => void): this;
    /**
     * This copy is not the primary any more.
     *
     * @param {(state: S) => void} handler
     * @returns {this}
     */
    onStandby(handler: (state: S) => void): this;
    /**
     * The version of the state and the code; 0 unless it is said.
     *
     * @param {number} number
     * @returns {this}
     */
    version(number: number): this;
    /**
     * This program also has the code of another version: when the upgrade to it comes, as an input
     * among the others, `convert` makes the new state.
     *
     * @template {object} T
     * @param {Program<T>} to
     * @param {(state: S) => T} convert
     * @returns {this}
     */
    upgradesTo<T extends object>(to: Program<T>, convert: (state: S) => T): this;
}
export type Method<A extends any[]> = {
    number: number;
    values: { [I in keyof A]: import("./values.js").Value<A[I]>; };
};
export type Methods = Record<string, Method<any>>;
/**
 * The arguments of a method.
 */
export type ArgumentsOf<M> = M extends Method<infer A> ? A : never;
export type AnyHandler<S> = (state: S, context: import("./machine.js").Context, ...args: any[]) => unknown;
export type NextHandler<S> = (state: S, context: import("./machine.js").Context, outcome: import("./machine.js").Outcome, kept: any) => void;
/**
 * An effect: what touches the world and gives a result. Here, and only here, a clock, the network
 * and chance are allowed. `key` is the same when a new primary does it again: send it along, so
 * that the other side can recognize the repetition.
 */
export type EffectHandler = (argument: any, about: {
    key: string;
    signal: AbortSignal;
}) => Promise<unknown>;
