// The golden frames of api/service-frames, read and written.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { GarbledError } from "../src/immortal/bytes.js";
import * as frames from "../src/service/frames.js";

const FOLDER = fileURLToPath(new URL("../../../api/service-frames/", import.meta.url));
const TIME = 1_700_000_000_000_000;
const USER = "/core/authz/users/jane";
const LINK = "/app/seats/A1";
const ROW = '{"row":"A"}';

/** @param {string} name */
function golden(name) {
  const lines = readFileSync(`${FOLDER}${name}.txt`, "utf8").split("\n");
  return Buffer.from(lines.map((line) => line.replace(/#.*/, "")).join(" ").replace(/\s/g, ""), "hex");
}

/** @param {Partial<frames.CallFrame>} what */
function call(what) {
  const rest = { link: LINK, time: TIME, user: USER, action: "", before: "", after: "", body: "" };
  return { type: "CALL", ...rest, ...what };
}

const sent = [
  { instance: "ledger", method: 1, payload: Buffer.from("[5]") },
  { instance: "mail", method: 300, payload: Buffer.from("[]") },
];
const has = { handlers: ["create", "delete"], actions: ["hold"] };

/** What each file is, in our words: bytes that we write, or a frame that we read. @type {Record<string, any>} */
const MEANT = {
  "21-serve": frames.serve({ link: "/app/seats", version: "2.1", callsMax: 8, ...has }),
  "22-answer-state": frames.written(300, ROW),
  "22-answer-as-it-is": frames.written(300, undefined),
  "22-answer-refused": frames.refused(300, 409, "held by Jörg"),
  "22-answer-failed": frames.failed(300, "KeyError: who"),
  "22-answer-sending": frames.written(300, ROW, sent),
  "23-leave": frames.leave(),
  "0d-pong": frames.pong(127),
  "a1-welcome": { type: "WELCOME", version: 2, node: "n1", frameBytesMax: 9 << 20 },
  "a2-call-create": call({ number: 1, handler: "create", version: 0, after: ROW }),
  "a2-call-patch": call({
    number: 2,
    handler: "patch",
    version: 3,
    before: ROW,
    after: '{"price":5,"row":"A"}',
    body: '{"price":5}',
  }),
  "a2-call-delete": call({ number: 3, handler: "delete", version: 4, user: "", before: ROW }),
  "a2-call-action": call({
    number: 300,
    handler: "action",
    action: "hold",
    version: 5,
    before: ROW,
    body: '{"who":"jane"}',
  }),
  "8d-ping": { type: "PING", number: 127 },
  "ff-error": { type: "ERROR", code: "LATE", text: "too late" },
};

test("each golden frame is read or written alike", () => {
  const names = readdirSync(FOLDER).map((name) => name.replace(".txt", ""));
  assert.deepEqual(names.sort(), Object.keys(MEANT).sort());
  for (const [name, meant] of Object.entries(MEANT)) {
    if (Buffer.isBuffer(meant)) assert.equal(meant.toString("hex"), golden(name).toString("hex"), name);
    else assert.deepEqual(frames.read(golden(name).subarray(4)), meant, name);
  }
});

test("what is cut short or goes on is garbled, and what comes in pieces is whole", () => {
  for (const [name, meant] of Object.entries(MEANT)) {
    if (Buffer.isBuffer(meant)) continue;
    const whole = golden(name).subarray(4);
    for (let end = 1; end < whole.length; end += 1)
      assert.throws(() => frames.read(whole.subarray(0, end)), GarbledError, `${name} ${end}`);
    if (!["WELCOME", "ERROR"].includes(meant.type))
      assert.throws(() => frames.read(Buffer.concat([whole, Buffer.from("x")])), GarbledError, name);
    const splitter = new frames.Splitter();
    const found = [];
    for (const byte of Buffer.concat([golden(name), golden(name)])) {
      splitter.add(Buffer.of(byte));
      for (let next = splitter.next(); next !== undefined; next = splitter.next()) found.push(next);
    }
    assert.deepEqual(found, [meant, meant], name);
  }
  const long = new frames.Splitter();
  long.add(Buffer.from([0, 0, 0, 100, 0x8d]));
  assert.throws(() => long.next(), GarbledError);
});
