/**
 * @template T
 * @param {Value<T>} of
 * @returns {Value<T[]>}
 */
export function list<T>(of: Value<T>): Value<T[]>;
/**
 * An object with these fields; others are dropped.
 *
 * @template {Record<string, any>} T
 * @param {{[F in keyof T]: Value<T[F]>}} fields
 * @returns {Value<T>}
 */
export function record<T extends Record<string, any>>(fields: { [F in keyof T]: Value<T[F]>; }): Value<T>;
/**
 * This, or null, or not there.
 *
 * @template T
 * @param {Value<T>} of
 * @returns {Value<T | undefined>}
 */
export function optional<T>(of: Value<T>): Value<T | undefined>;
/**
 * What arguments and answers must be. A message with others is refused before a handler sees it:
 * nobody can stop a program with a wrong message.
 *
 * @module
 */
/** An answer that is an error, with a text for people. Thrown by a handler, the caller is told. */
export class Refused extends Error {
    /** @param {string} message */
    constructor(message: string);
}
/** @type {Value<string>} */
export const text: Value<string>;
/** @type {Value<boolean>} */
export const boolean: Value<boolean>;
/** Any number that a double holds exactly. @type {Value<number>} */
export const number: Value<number>;
/** A whole number up to 2^53. @type {Value<number>} */
export const integer: Value<number>;
/** A whole number of any size, always as a `bigint`. @type {Value<bigint>} */
export const whole: Value<bigint>;
/** Whatever JSON can say. @type {Value<any>} */
export const any: Value<any>;
/**
 * Reads one value that came as JSON.
 */
export type Value<T> = {
    /**
     * for messages
     */
    name: string;
    /**
     * throws `Refused` when it is another
     */
    read: (value: any, where: string) => T;
};
