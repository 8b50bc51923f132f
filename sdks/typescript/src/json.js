/**
 * JSON that keeps every digit, in both directions.
 *
 * `JSON.parse` makes a double of every number, so 9007199254740993 comes back as another number and
 * nobody is told. Here a number that a double holds exactly is a `number`; a whole number that it
 * does not hold is a `bigint`; any other is a {@link Decimal}, which keeps its text.
 *
 * @module
 */

/** Deeper than a node takes it; it bounds the stack. */
const DEPTH_MAX = 512;

/** A number that neither a double nor a bigint can be: `0.10000000000000000001`, `1e400`. */
export class Decimal {
  /** @param {string} text the number as it stands in JSON */
  constructor(text) {
    if (!NUMBER_ALONE.test(text)) throw new TypeError(`'${text}' is no number of JSON`);
    /** @readonly */
    this.text = text;
  }

  toString() {
    return this.text;
  }

  /** The nearest double: digits are lost. */
  toNumber() {
    return Number(this.text);
  }

  toJSON() {
    throw new TypeError(
      `JSON.stringify would lose digits of ${this.text}: use stringify of @amrita/sdk`,
    );
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const NUMBER_ALONE = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$/;
/** What stands in a string without an escape. */
// eslint-disable-next-line no-control-regex
const PLAIN = /[^"\\\u0000-\u001f]*/y;

/** @type {Record<string, string>} */
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

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
export function parse(text, options = {}) {
  const reader = new Reader(text, new Set(options.bigints ?? []));
  reader.blanks();
  const value = reader.value(0, false);
  reader.blanks();
  if (reader.at < text.length) reader.fail("nothing more was expected");
  return value;
}

class Reader {
  /**
   * @param {string} text
   * @param {Set<string>} bigints
   */
  constructor(text, bigints) {
    this.text = text;
    this.bigints = bigints;
    this.at = 0;
  }

  /**
   * @param {string} why
   * @returns {never}
   */
  fail(why) {
    const found =
      this.at < this.text.length ? `'${this.text.slice(this.at, this.at + 12)}'` : "the end";
    throw new SyntaxError(`not JSON at character ${this.at}: ${why}, found ${found}`);
  }

  blanks() {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.at += 1;
    }
  }

  /**
   * @param {number} depth
   * @param {boolean} big whole numbers are to be a bigint
   * @returns {any}
   */
  value(depth, big) {
    if (depth > DEPTH_MAX) this.fail(`nested deeper than ${DEPTH_MAX}`);
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth + 1);
      case "[":
        return this.array(depth + 1, big);
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number(big);
    }
  }

  /**
   * @template T
   * @param {string} word
   * @param {T} value
   */
  word(word, value) {
    if (!this.text.startsWith(word, this.at)) this.fail("a value was expected");
    this.at += word.length;
    return value;
  }

  /** @param {number} depth */
  object(depth) {
    /** @type {Record<string, any>} */
    const object = {};
    this.at += 1;
    this.blanks();
    if (this.text[this.at] === "}") {
      this.at += 1;
      return object;
    }
    for (;;) {
      if (this.text[this.at] !== '"') this.fail("the name of a field was expected");
      const name = this.string();
      this.blanks();
      if (this.text[this.at] !== ":") this.fail("':' was expected");
      this.at += 1;
      this.blanks();
      const value = this.value(depth, this.bigints.has(name));
      if (name === "__proto__") {
        Object.defineProperty(object, name, {
          value,
          enumerable: true,
          writable: true,
          configurable: true,
        });
      } else {
        object[name] = value;
      }
      this.blanks();
      const next = this.text[this.at];
      if (next !== "," && next !== "}") this.fail("',' or '}' was expected");
      this.at += 1;
      if (next === "}") return object;
      this.blanks();
    }
  }

  /**
   * @param {number} depth
   * @param {boolean} big
   */
  array(depth, big) {
    /** @type {any[]} */
    const array = [];
    this.at += 1;
    this.blanks();
    if (this.text[this.at] === "]") {
      this.at += 1;
      return array;
    }
    for (;;) {
      array.push(this.value(depth, big));
      this.blanks();
      const next = this.text[this.at];
      if (next !== "," && next !== "]") this.fail("',' or ']' was expected");
      this.at += 1;
      if (next === "]") return array;
      this.blanks();
    }
  }

  /** @returns {string} */
  string() {
    let made = "";
    this.at += 1;
    for (;;) {
      PLAIN.lastIndex = this.at;
      PLAIN.test(this.text);
      made += this.text.slice(this.at, PLAIN.lastIndex);
      this.at = PLAIN.lastIndex;
      const here = this.text[this.at];
      if (here === '"') {
        this.at += 1;
        return made;
      }
      if (here !== "\\") this.fail("a text does not end, or has a control character in it");
      made += this.escape();
    }
  }

  escape() {
    const letter = this.text[this.at + 1];
    if (letter === "u") {
      const digits = this.text.slice(this.at + 2, this.at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("four hex digits were expected");
      this.at += 6;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const meant = ESCAPES[letter];
    if (meant === undefined) this.fail("no such escape");
    this.at += 2;
    return meant;
  }

  /** @param {boolean} big */
  number(big) {
    NUMBER.lastIndex = this.at;
    const found = NUMBER.exec(this.text);
    if (!found) return this.fail("a value was expected");
    this.at = NUMBER.lastIndex;
    const isWhole = found[1] === undefined && found[2] === undefined;
    return isWhole ? whole(found[0], big) : real(found[0]);
  }
}

/**
 * @param {string} text
 * @param {boolean} big
 */
function whole(text, big) {
  if (big) return BigInt(text);
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text);
}

/** @param {string} text */
function real(text) {
  const number = Number(text);
  if (!Number.isFinite(number)) return new Decimal(text);
  // A double has a shortest text; whatever says the same, loses nothing by being that double.
  return sameValue(text, String(number)) ? number : new Decimal(text);
}

/**
 * Whether two texts are the same number.
 *
 * @param {string} one
 * @param {string} other
 */
function sameValue(one, other) {
  const [digits, exponent] = normal(one);
  const [others, otherExponent] = normal(other);
  return digits === others && (digits === "" || exponent === otherExponent);
}

/**
 * The digits from the first that is not 0 to the last that is not 0, and the power of ten of the
 * last.
 *
 * @param {string} text
 * @returns {[string, number]}
 */
function normal(text) {
  const [mantissa, power = "0"] = text.replace(/^-/, "").split(/[eE]/);
  const [before, after = ""] = mantissa.split(".");
  const digits = (before + after).replace(/^0+/, "");
  const kept = digits.replace(/0+$/, "");
  return [kept, Number(power) - after.length + (digits.length - kept.length)];
}

/**
 * Writes JSON: every digit of a `bigint` and of a {@link Decimal}. What JSON has no word for (NaN,
 * a Map, a function) is refused, where `JSON.stringify` would write null or {}.
 *
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} with the place of what cannot be written
 */
export function stringify(value) {
  const text = put(value, "value", 0);
  if (text === undefined) throw new TypeError("undefined is no JSON");
  return text;
}

/**
 * @param {unknown} value
 * @param {string} where
 * @param {number} depth
 * @returns {string | undefined}
 */
function put(value, where, depth) {
  if (depth > DEPTH_MAX)
    throw new TypeError(`${where}: nested deeper than ${DEPTH_MAX}, or in a circle`);
  switch (typeof value) {
    case "string":
    case "boolean":
      return JSON.stringify(value);
    case "bigint":
      return value.toString();
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${where}: JSON has no ${value}`);
      return double(value);
    case "undefined":
      return undefined;
    case "object":
      return value === null ? "null" : putObject(value, where, depth);
    default:
      throw new TypeError(`${where}: a ${typeof value} cannot be written as JSON`);
  }
}

/**
 * A double so that it is read as one: beyond 2^53 it would be a `bigint` otherwise.
 *
 * @param {number} value
 */
function double(value) {
  if (Object.is(value, -0)) return "-0.0";
  const text = String(value);
  const isBig = Number.isInteger(value) && !Number.isSafeInteger(value) && !text.includes("e");
  return isBig ? `${text}.0` : text;
}

/**
 * @param {object} value
 * @param {string} where
 * @param {number} depth
 * @returns {string | undefined}
 */
function putObject(value, where, depth) {
  if (value instanceof Decimal) return value.text;
  if ("toJSON" in value && typeof value.toJSON === "function") {
    return put(value.toJSON(), where, depth + 1);
  }
  if (Array.isArray(value)) {
    const items = value.map((item, at) => {
      const text = put(item, `${where}[${at}]`, depth + 1);
      if (text === undefined) throw new TypeError(`${where}[${at}]: undefined is no JSON`);
      return text;
    });
    return `[${items.join(",")}]`;
  }
  if (value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    throw new TypeError(`${where}: a ${value.constructor.name} cannot be written as JSON`);
  }
  const fields = [];
  for (const [name, field] of Object.entries(value)) {
    const text = put(field, `${where}.${name}`, depth + 1);
    if (text !== undefined) fields.push(`${JSON.stringify(name)}:${text}`);
  }
  return `{${fields.join(",")}}`;
}
