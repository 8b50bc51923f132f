// Services: what they make of calls, how they end, and one at a real node.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Reader } from "../src/immortal/bytes.js";
import { contract, integer, method } from "../src/immortal/index.js";
import { parse, stringify } from "../src/json.js";
import { Refusal, service } from "../src/service/index.js";
import { cluster } from "../src/testing.js";
import { killPrograms, Program, until } from "./helpers.js";

const LINK = "/app/seats/A1";
const SERVED = "test/served.js";
const Ledger = contract({ pay: method(1, integer) });

function seats() {
  return service("/app/seats", { version: "1", bigints: ["price"] })
    .create((call, /** @type {any} */ seat) => {
      seat.by = call.name;
    })
    .patch(async (_, before, after) => ({ ...after, was: before.row }))
    .delete((_, seat) => {
      if (seat.row === "keep") throw new Refusal("it is to be kept", 403);
    })
    .action("pay", (call, seat, { amount }) => {
      call.fork(Ledger.at("ledger").pay(amount));
      seat.price += BigInt(amount);
    })
    .action("fail", () => {
      throw new RangeError("out of seats");
    })
    .action("spoil", () => /** @type {any} */ ("no state"));
}

/**
 * @param {import("../src/service/service.js").Service<any>} of
 * @param {string} handler
 * @param {{action?: string, before?: object, after?: object, body?: object}} given
 */
async function answer(of, handler, { action = "", before, after, body }) {
  const text = (/** @type {object | undefined} */ state) => (state ? stringify(state) : "");
  const asked = { type: "CALL", number: 7, handler, action, link: LINK, version: 3, time: 5, user: "" };
  const states = { before: text(before), after: text(after), body: text(body) };
  const from = new Reader(await of.answer(/** @type {any} */ ({ ...asked, ...states })));
  from.u32();
  assert.deepEqual([from.u8(), from.n()], [0x22, 7]);
  const sent = [];
  let outcome = from.u8();
  if (outcome === 5) {
    for (let count = from.n(); count > 0; count -= 1)
      sent.push([from.s(), from.z(), from.b().toString()]);
    outcome = from.u8();
  }
  if (outcome === 1) return { state: parse(from.rest().toString()), sent };
  if (outcome === 2) return { asItIs: true, sent };
  return outcome === 3 ? { status: from.n(), message: from.s() } : { failed: from.s() };
}

test("a call gives a state, messages, a refusal or a failure", async () => {
  const of = seats();
  const log = console.error;
  console.error = () => {};
  try {
    const made = await answer(of, "create", { after: { row: "A", price: 2n ** 60n } });
    assert.deepEqual(made, { state: { row: "A", price: 2n ** 60n, by: "A1" }, sent: [] });
    const states = { before: { row: "A" }, after: { row: "B", new: { x: [1] } } };
    const patched = await answer(of, "patch", states);
    assert.deepEqual(patched.state, { row: "B", new: { x: [1] }, was: "A" });
    const paid = { action: "pay", before: { price: 1, colour: "red" }, body: { amount: 5 } };
    const { state, sent } = await answer(of, "action", paid);
    assert.deepEqual([state, sent], [{ price: 6, colour: "red" }, [["ledger", 1, "[5]"]]]);
    assert.deepEqual(await answer(of, "delete", { before: { row: "A" } }), { asItIs: true, sent: [] });
    const kept = await answer(of, "delete", { before: { row: "keep" } });
    assert.deepEqual(kept, { status: 403, message: "it is to be kept" });
    for (const [handler, action, why] of [
      ["action", "fail", /out of seats/],
      ["action", "spoil", /gives a state or nothing/],
      ["action", "fly", /has no action 'fly'/],
      ["put", "", /has no handler of put/],
    ]) {
      const { failed } = await answer(of, String(handler), { action: String(action), before: {}, after: {} });
      assert.match(failed ?? "", /** @type {RegExp} */ (why));
    }
  } finally {
    console.error = log;
  }
});

test("a program that is told to end answers what it has, also when a handler hangs", async () => {
  const folder = mkdtempSync(join(tmpdir(), "amrita-service-"));
  const node = createServer().listen(join(folder, "immortals.sock"));
  try {
    const program = new Program([SERVED, "hangs", "--node", folder]);
    const [socket] = /** @type {[import("node:net").Socket]} */ (await once(node, "connection"));
    const heard = /** @type {Buffer[]} */ ([]);
    socket.on("data", (bytes) => heard.push(bytes));
    await until("SERVE", () => heard.length > 0);
    const frame = (/** @type {number[]} */ ...bytes) => Buffer.from([bytes.length, 0, 0, 0, ...bytes]);
    socket.write(frame(0xa1, 2, 2, 0x6e, 0x31, 0x80, 0x80, 0x04));
    const text = (/** @type {string} */ of) => [of.length, ...Buffer.from(of)];
    const call = [0xa2, 1, 4, ...text("add"), ...text("/app/counters/A"), 1, 1, 0];
    socket.write(frame(...call, ...text("{}"), 0, ...text("{}")));
    await program.says("hanging");
    program.process.kill("SIGTERM");
    await until("LEAVE", () => Buffer.concat(heard).includes(Buffer.from([1, 0, 0, 0, 0x23])));
    socket.destroy();
    assert.equal(await program.ended, 0);
  } finally {
    node.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a service at real nodes survives the death of its copies", { timeout: 240_000 }, async () => {
  const nodes = await cluster({ nodes: 2 });
  const client = nodes.client({ patience: 60_000 });
  try {
    const start = (/** @type {string} */ mode, at = 0) =>
      new Program([SERVED, mode, "--node", nodes.addresses[at]]);
    const programs = [start("1"), start("2", 1)];
    for (const program of programs)
      await until("it serves", () => program.errors.includes("serving /app/counters"));
    const counters = client.kind("/app/counters");
    const made = await counters.create(/** @type {any} */ ({ count: 2n ** 60n }), { name: "A" });
    assert.equal(/** @type {any} */ (made).count, 2n ** 60n);
    await assert.rejects(counters.act("A", "no", {}), { status: 404 });
    await assert.rejects(counters.act("A", "add", { by: "x" }), { code: "BAD_REQUEST" });
    for (let n = 1; n <= 20; n += 1) {
      if (n === 8) await programs[0].kill();
      if (n === 12) programs[0] = start("1");
      await counters.act("A", "add", { by: 1 });
    }
    const found = /** @type {any} */ (await counters.get("A"));
    assert.deepEqual([found.count, found.documentVersion], [2n ** 60n + 20n, 20]);
    // The older copy that was started again has not taken the definition back.
    const kind = /** @type {any} */ (await client.kinds.show("/app/counters"));
    assert.equal(kind.version, "2");
    await until("it has said so", () => /serves as it is/.test(programs[0].errors));
    programs[1].process.kill("SIGTERM");
    assert.equal(await programs[1].ended, 0);
    await counters.act("A", "add", { by: 1 });
  } finally {
    killPrograms();
    client.close();
    await nodes.stop();
  }
});

