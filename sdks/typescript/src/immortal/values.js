/**
 * What arguments and answers must be. A message with others is refused before a handler sees it:
 * nobody can stop a program with a wrong message.
 *
 * @module
 */

/** An answer that is an error, with a text for people. Thrown by a handler, the caller is told. */
export class Refused extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "Refused";
  }
}

/**
 * Reads one value that came as JSON.
 *
 * @template T
 * @typedef {object} Value
 * @property {string} name for messages
 * @property {(value: any, where: string) => T} read throws `Refused` when it is another
 */

/**
 * @template T
 * @param {string} name
 * @param {(value: any) => boolean} is
 * @returns {Value<T>}
 */
function simple(name, is) {
  return {
    name,
    read(value, where) {
      if (is(value)) return value;
      throw new Refused(`${where} must be ${name}, not ${shown(value)}`);
    },
  };
}

/** @param {any} value */
function shown(value) {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `${value}`.slice(0, 40);
}

/** @type {Value<string>} */
export const text = simple("a text", (value) => typeof value === "string");

/** @type {Value<boolean>} */
export const boolean = simple("true or false", (value) => typeof value === "boolean");

/** Any number that a double holds exactly. @type {Value<number>} */
export const number = simple("a number", (value) => typeof value === "number");

/** A whole number up to 2^53. @type {Value<number>} */
export const integer = simple("a whole number below 2^53", Number.isSafeInteger);

/** A whole number of any size, always as a `bigint`. @type {Value<bigint>} */
export const whole = {
  name: "a whole number",
  read(value, where) {
    if (typeof value === "bigint") return value;
    if (Number.isSafeInteger(value)) return BigInt(value);
    throw new Refused(`${where} must be a whole number, not ${shown(value)}`);
  },
};

/** Whatever JSON can say. @type {Value<any>} */
export const any = { name: "anything", read: (value) => value };

/**
 * @template T
 * @param {Value<T>} of
 * @returns {Value<T[]>}
 */
export function list(of) {
  return {
    name: "a list",
    read(value, where) {
      if (!Array.isArray(value)) throw new Refused(`${where} must be a list, not ${shown(value)}`);
      return value.map((item, at) => of.read(item, `${where}[${at}]`));
    },
  };
}

/**
 * An object with these fields; others are dropped.
 *
 * @template {Record<string, any>} T
 * @param {{[F in keyof T]: Value<T[F]>}} fields
 * @returns {Value<T>}
 */
export function record(fields) {
  return {
    name: "an object",
    read(value, where) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new Refused(`${where} must be an object, not ${shown(value)}`);
      }
      const made = Object.entries(fields).map(([name, of]) => [
        name,
        of.read(value[name], `${where}.${name}`),
      ]);
      return Object.fromEntries(made);
    },
  };
}

/**
 * This, or null, or not there.
 *
 * @template T
 * @param {Value<T>} of
 * @returns {Value<T | undefined>}
 */
export function optional(of) {
  return {
    name: `${of.name}, or nothing`,
    read: (value, where) =>
      value === undefined || value === null ? undefined : of.read(value, where),
  };
}
