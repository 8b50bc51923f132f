/**
 * How a state stands in a checkpoint: JSON, with a tag where JSON has no word. What comes back is
 * the same as what went in (a `bigint` stays one, a Map keeps its order), or it does not go in: a
 * copy that was loaded must do what a copy that has never died does.
 *
 * @module
 */

import { parse, stringify } from "../json.js";

/** The field by which a tagged value is known. */
const TAG = "$";

/**
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} with the place of what cannot be kept
 */
export function save(value) {
  return stringify(encode(value, "state", new Map()));
}

/**
 * @param {string} text
 * @returns {any}
 */
export function load(text) {
  return decode(parse(text));
}

/**
 * @param {unknown} value
 * @param {string} where
 * @param {Map<object, string>} seen
 * @returns {unknown}
 */
function encode(value, where, seen) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : tagged("number", spelled(value));
    case "bigint":
      return tagged("bigint", value.toString());
    case "undefined":
      return tagged("undefined", null);
    case "object":
      return value === null ? null : encodeObject(value, where, seen);
    default:
      throw new TypeError(`${where}: a ${typeof value} cannot be kept in a checkpoint`);
  }
}

/**
 * @param {object} value
 * @param {string} where
 * @param {Map<object, string>} seen
 * @returns {unknown}
 */
function encodeObject(value, where, seen) {
  const before = seen.get(value);
  if (before !== undefined) {
    throw new TypeError(
      `${where} is the same object as ${before}: once it is loaded these would be two`,
    );
  }
  seen.set(value, where);
  if (Array.isArray(value))
    return Array.from(value, (item, at) => encode(item, `${where}[${at}]`, seen));
  if (value instanceof Map) {
    const pairs = [...value].map(([key, item]) => [
      encode(key, `a key of ${where}`, seen),
      encode(item, `${where}.get(${String(key)})`, seen),
    ]);
    return tagged("map", pairs);
  }
  if (value instanceof Set)
    return tagged(
      "set",
      [...value].map((item) => encode(item, `an item of ${where}`, seen)),
    );
  if (value instanceof Uint8Array) return tagged("bytes", Buffer.from(value).toString("base64"));
  if (value instanceof Date) return tagged("date", spelled(value.getTime()));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const name = value.constructor?.name ?? "an object";
    throw new TypeError(
      `${where}: a ${name} cannot be kept in a checkpoint, only plain objects, lists, Map, Set, Date and Uint8Array`,
    );
  }
  const pairs = Object.entries(value).map(
    ([name, field]) =>
      /** @type {[string, unknown]} */ ([name, encode(field, `${where}.${name}`, seen)]),
  );
  const isPlain = !Object.hasOwn(value, TAG) && !Object.hasOwn(value, "__proto__");
  return isPlain ? Object.fromEntries(pairs) : tagged("object", pairs);
}

/**
 * @param {string} kind
 * @param {unknown} value
 */
function tagged(kind, value) {
  return { [TAG]: kind, v: value };
}

/** @param {number} number */
function spelled(number) {
  return Object.is(number, -0) ? "-0" : String(number);
}

/**
 * @param {any} value
 * @returns {any}
 */
function decode(value) {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(decode);
  if (Object.hasOwn(value, TAG)) return decodeTagged(value[TAG], value.v);
  for (const [name, field] of Object.entries(value)) value[name] = decode(field);
  return value;
}

/**
 * @param {string} kind
 * @param {any} value
 * @returns {any}
 */
function decodeTagged(kind, value) {
  switch (kind) {
    case "number":
      return Number(value);
    case "bigint":
      return BigInt(value);
    case "undefined":
      return undefined;
    case "map":
      return new Map(
        value.map((/** @type {[any, any]} */ [key, item]) => [decode(key), decode(item)]),
      );
    case "set":
      return new Set(value.map(decode));
    case "bytes":
      return new Uint8Array(Buffer.from(value, "base64"));
    case "date":
      return new Date(Number(value));
    case "object": {
      const object = {};
      for (const [name, field] of value) {
        Object.defineProperty(object, name, {
          value: decode(field),
          enumerable: true,
          writable: true,
          configurable: true,
        });
      }
      return object;
    }
    default:
      throw new TypeError(
        `the checkpoint has a value of kind '${kind}', which this binding does not know`,
      );
  }
}
