// Effects without a node: each is done by the version of the program that has asked for it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Effects } from "../src/immortal/effects.js";
import { program } from "../src/immortal/index.js";
import { until } from "./helpers.js";

test("what the next version asks for is done by it", async () => {
  const one = program("sum", () => ({})).effects({ old: async () => "old" });
  const two = program("sum", () => ({})).effects({ fresh: async () => "new" });
  /** @type {import("../src/immortal/frames.js").Frame[]} */
  const said = [];
  const effects = new Effects("sum", 4096, (frame) => void said.push(frame));
  effects.begin(one, { id: 1, name: "old", argument: undefined });
  effects.begin(two, { id: 2, name: "fresh", argument: undefined });
  await until("both are done", () => said.length === 2);
  const results = said.map(({ id, payload }) => [id, payload.toString()]);
  assert.deepEqual(results.sort(), [
    [1, '"old"'],
    [2, '"new"'],
  ]);
});
