// JSON keeps every digit, in both directions.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Decimal, parse, stringify } from "../src/index.js";

test("whole numbers beyond 2^53 come and go with all their digits", () => {
  for (const text of [
    "9007199254740993",
    "18446744073709551615",
    "-9223372036854775808",
    "123456789012345678901234567890",
  ]) {
    assert.equal(parse(text), BigInt(text));
    assert.equal(stringify(parse(text)), text);
  }
  assert.equal(parse("9007199254740991"), 9007199254740991);
  assert.equal(parse("-9007199254740991"), -9007199254740991);
  assert.equal(typeof parse("9007199254740992"), "bigint");
});

test("a double is a number when it says the same, else its text is kept", () => {
  for (const [text, number] of /** @type {[string, number][]} */ ([
    ["0.1", 0.1],
    ["1e3", 1000],
    ["1.50", 1.5],
    ["5.0", 5],
    ["-2.5E-3", -0.0025],
    ["0e5", 0],
    ["5e-324", 5e-324],
    ["1.7976931348623157e308", Number.MAX_VALUE],
    ["0.30000000000000004", 0.1 + 0.2],
    ["100000000000000000000000.0", 1e23],
  ])) {
    assert.equal(parse(text), number, text);
    assert.equal(parse(stringify(number)), number, text);
  }
  for (const text of [
    "0.10000000000000000001",
    "1e400",
    "1e-400",
    "123456789.123456789123",
    "9007199254740993.5",
  ]) {
    const kept = parse(text);
    assert.ok(kept instanceof Decimal, text);
    assert.equal(stringify(kept), text);
  }
  assert.ok(Object.is(parse(stringify(-0)), -0));
  assert.throws(() => new Decimal("1e"), /is no number of JSON/);
});

test("fields that are named have a bigint always", () => {
  const read = parse('{"balance": 5, "other": 5, "in": {"balance": [1, 2]}, "half": 0.5}', {
    bigints: ["balance"],
  });
  assert.deepEqual(read, { balance: 5n, other: 5, in: { balance: [1n, 2n] }, half: 0.5 });
});

test("what JSON.parse takes is taken, and what it refuses is refused", () => {
  const texts = [
    "null",
    " [1, 2 ,\n3]\t",
    '{"a": {"b": [true, false, null, "x"]}}',
    '"\\u00e9\\n\\ud83d\\ude00é😀"',
    "[]",
    "{}",
    '{"__proto__": 1}',
    "-0",
    '""',
    '[""]',
    '{"":1}',
    "",
    "{",
    "[1,]",
    '{"a":1,}',
    "{a:1}",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "'x'",
    '"\n"',
    '"\\x"',
    '"\\u12"',
    "nul",
    "[1 2]",
    "1 2",
    "NaN",
    "[",
    '"',
  ];
  for (const text of texts) {
    let wanted;
    try {
      wanted = JSON.parse(text);
    } catch {
      assert.throws(() => parse(text), SyntaxError, text);
      continue;
    }
    assert.deepEqual(parse(text), wanted, text);
    assert.deepEqual(JSON.parse(stringify(parse(text))), wanted, text);
  }
  assert.throws(() => parse("[".repeat(100_000)), /nested deeper/);
});

test("what cannot be said in JSON is refused with its place, not written as null", () => {
  /** @type {any[]} */
  const circle = [];
  circle.push(circle);
  for (const [value, why] of /** @type {[any, RegExp][]} */ ([
    [{ a: [1, Number.NaN] }, /value\.a\[1\]: JSON has no NaN/],
    [new Map(), /a Map/],
    [() => 1, /a function/],
    [[undefined], /undefined/],
    [circle, /in a circle/],
    [undefined, /undefined/],
    [new Uint8Array(2), /Uint8Array/],
  ])) {
    assert.throws(() => stringify(value), why);
  }
  assert.equal(stringify({ a: undefined, at: new Date(0) }), '{"at":"1970-01-01T00:00:00.000Z"}');
});

test("random values come back as they were", () => {
  // A generator with a seed, so that a failure can be played again.
  let seed = 42;
  const below = (/** @type {number} */ bound) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed % bound;
  };
  /** @returns {any} */
  const value = (/** @type {number} */ depth) => {
    switch (below(depth > 4 ? 5 : 7)) {
      case 0:
        return below(2) === 0;
      case 1:
        return (below(2 ** 30) - 2 ** 29) * 2 ** (below(600) - 300);
      case 2:
        return BigInt(below(2 ** 30)) ** 4n + 2n ** 53n;
      case 3:
        return String.fromCharCode(...Array.from({ length: below(9) }, () => below(0xd800)));
      case 4:
        return null;
      case 5:
        return Array.from({ length: below(5) }, () => value(depth + 1));
      default:
        return Object.fromEntries(
          Array.from({ length: below(5) }, (_, n) => [`k${n}`, value(depth + 1)]),
        );
    }
  };
  for (let times = 0; times < 2_000; times += 1) {
    const made = value(0);
    assert.deepEqual(parse(stringify(made)), made);
  }
});
