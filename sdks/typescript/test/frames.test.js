// The golden frames of api/frames, in both directions.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { crc32, GarbledError, Reader, Writer } from "../src/immortal/bytes.js";
import {
  putBlock,
  putFrame,
  putMessage,
  readBlocks,
  readFrame,
  readMessages,
  Splitter,
} from "../src/immortal/frames.js";

const FOLDER = fileURLToPath(new URL("../../../api/frames/", import.meta.url));

/** @param {string} name */
function golden(name) {
  const lines = readFileSync(FOLDER + name, "utf8").split("\n");
  const hex = lines
    .map((line) => line.replace(/#.*/, ""))
    .join(" ")
    .trim()
    .split(/\s+/);
  return Buffer.from(hex.join(""), "hex");
}

/** What the comments of the files say. @type {Record<string, any>} */
const MEANING = {
  "01-hello.txt": { type: "HELLO", instance: "server", programVersion: 3, upgradeTo: 4 },
  "02-send.txt": { type: "SEND", destination: "server", count: 2 },
  "03-await-timer.txt": { type: "AWAIT", id: 5, due: 1700000000000000 },
  "03-await-effect.txt": { type: "AWAIT", id: 6, due: 0 },
  "05-done.txt": { type: "DONE", input: 16384 },
  "0e-fault.txt": { type: "FAULT", input: 12, text: "a handler panicked: no such user" },
  "81-welcome.txt": {
    type: "WELCOME",
    version: 1,
    node: "n1",
    replica: 2,
    frameBytesMax: 1048576,
    windowBytes: 4194304,
    stateVersion: 3,
  },
  "83-load.txt": { type: "LOAD", input: 1000, bytes: 9 },
  "86-deliver.txt": { type: "DELIVER", first: 1001, time: 1700000000000001 },
  "8b-fate-unknown.txt": { type: "FATE", number: 3, fate: 2, input: 0 },
  "8c-credit.txt": { type: "CREDIT", destination: "server", bytes: 65536 },
  "ff-error.txt": {
    type: "ERROR",
    code: "ATTACHED",
    text: "another program is attached: end it first",
  },
};

const names = readdirSync(FOLDER).filter((name) => name.endsWith(".txt"));

test("every golden frame is read and written back the same", () => {
  const frames = names.filter((name) => !name.startsWith("message-"));
  assert.ok(frames.length >= 32, `${frames.length} frames`);
  for (const name of frames) {
    const bytes = golden(name);
    const splitter = new Splitter();
    // Byte for byte, as a slow network would bring it.
    for (const byte of bytes.subarray(0, -1)) {
      splitter.add(Buffer.from([byte]));
      assert.equal(splitter.next(), undefined, name);
    }
    splitter.add(bytes.subarray(-1));
    const { frame } = splitter.next() ?? assert.fail(name);
    for (const [field, value] of Object.entries(MEANING[name] ?? {}))
      assert.deepEqual(frame[field], value, `${name}: ${field}`);
    const out = new Writer();
    putFrame(out, frame);
    assert.deepEqual(out.take(), bytes, name);
  }
});

test("every golden message is read and written back the same", () => {
  const messages = names.filter((name) => name.startsWith("message-"));
  assert.ok(messages.length >= 11, `${messages.length} messages`);
  for (const name of messages) {
    const bytes = golden(name);
    const found = [...readMessages(bytes)];
    assert.equal(found.length, 1, name);
    const out = new Writer();
    putMessage(out, found[0]);
    assert.deepEqual(out.take(), bytes, name);
  }
  const [call] = readMessages(golden("message-1-call.txt"));
  assert.deepEqual(
    { ...call, payload: String(call.payload) },
    { type: "CALL", id: 300, method: -2, payload: "[]" },
  );
  const [error] = readMessages(golden("message-2-answer-error.txt"));
  assert.equal(String(error.payload), "no such user: Jörg");
});

test("the blocks of a DELIVER are read and written back the same", () => {
  const frame = readFrame(golden("86-deliver.txt").subarray(4));
  const blocks = readBlocks(frame.blocks);
  assert.deepEqual(
    blocks.map(({ kind, name, first, messages }) => [
      kind,
      name,
      first,
      messages.map(({ type }) => type),
    ]),
    [
      [1, "client", 41, ["FORK", "CALL"]],
      [2, "client/7", 0, ["IMPULSE"]],
      [0, "", 0, ["TIMER"]],
    ],
  );
  const out = new Writer();
  for (const block of blocks) putBlock(out, block);
  assert.deepEqual(out.take(), frame.blocks);
});

test("numbers of 64 bits keep all their digits", () => {
  for (const number of [
    0,
    127,
    128,
    2 ** 28 - 1,
    2 ** 28,
    2 ** 31,
    2 ** 32,
    2 ** 53 - 1,
    2n ** 53n,
    2n ** 64n - 1n,
  ]) {
    const out = new Writer();
    out.n(number);
    assert.equal(new Reader(out.take()).n(), number);
  }
  for (const number of [0, -1, 1, -2, 2 ** 40, -(2 ** 40), 2n ** 63n - 1n, -(2n ** 63n)]) {
    const out = new Writer();
    out.z(number);
    assert.equal(new Reader(out.take()).z(), number);
  }
  assert.throws(() => new Reader(Buffer.alloc(11, 0xff)).n(), GarbledError);
  assert.throws(() => new Writer().n(2n ** 64n), RangeError);
  assert.equal(crc32(Buffer.from("123456789")), 0xcbf43926);
});

test("what is cut short, too long or unknown is garbage", () => {
  const splitter = new Splitter();
  splitter.add(Buffer.from([0xff, 0xff, 0xff, 0x7f]));
  assert.throws(() => splitter.next(), GarbledError);
  assert.throws(() => readFrame(Buffer.from([0x70])), GarbledError);
  for (const name of names.filter((one) => !one.startsWith("message-"))) {
    const bytes = golden(name).subarray(4);
    for (let length = 0; length < bytes.length; length += 1) {
      try {
        readFrame(bytes.subarray(0, length));
      } catch (error) {
        assert.ok(error instanceof GarbledError, `${name} cut at ${length}: ${error}`);
      }
    }
  }
});
