/**
 * @typedef {object} ParseOptions
 * @property {Iterable<string>} [bigints] Names of fields whose whole numbers are always a `bigint`,
 *   small ones too (also in a list that such a field holds), so that a program can calculate with
 *   them without looking first.
 */
/**
 * Reads JSON.
 *
 * @param {string} text
 * @param {ParseOptions} [options]
 * @returns {any}
 * @throws {SyntaxError} when it is none; the message names the place
 */
export function parse(text: string, options?: ParseOptions): any;
/**
 * Writes JSON: every digit of a `bigint` and of a {@link Decimal}. What JSON has no word for (NaN,
 * a Map, a function) is refused, where `JSON.stringify` would write null or {}.
 *
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} with the place of what cannot be written
 */
export function stringify(value: unknown): string;
/** A number that neither a double nor a bigint can be: `0.10000000000000000001`, `1e400`. */
export class Decimal {
    /** @param {string} text the number as it stands in JSON */
    constructor(text: string);
    /** @readonly */
    readonly text: string;
    toString(): string;
    /** The nearest double: digits are lost. */
    toNumber(): number;
    toJSON(): void;
}
export type ParseOptions = {
    /**
     * Names of fields whose whole numbers are always a `bigint`,
     * small ones too (also in a list that such a field holds), so that a program can calculate with
     * them without looking first.
     */
    bigints?: Iterable<string> | undefined;
};
