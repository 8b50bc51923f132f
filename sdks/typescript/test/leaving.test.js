// A program that is stopped, without a node: what it has said goes out before the connection ends.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { test } from "node:test";

import { program } from "../src/immortal/index.js";
import { Session } from "../src/immortal/session.js";

/** More than the kernel keeps for a node that does not read. */
const PAYLOAD = Buffer.alloc(1 << 20, "x");
const COUNT = 16;

test("what was said before the stop is sent, also to a node that reads late", async () => {
  const server = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const socket = createConnection(port, "127.0.0.1");
  const [node] = await once(server, "connection");
  /** @type {any} */
  let line;
  const impulses = /** @type {any} */ ({
    connected: (/** @type {any} */ given) => void (line = given),
    disconnected: () => undefined,
  });
  const plan = {
    instance: "sum",
    program: program("sum", () => ({})),
    initial: Buffer.alloc(0),
    impulses,
  };
  const ended = new Session(plan, socket).run(Buffer.alloc(0));
  for (let number = 0; number < COUNT; number += 1)
    line.write({ type: "IMPULSE", number, destination: "other", message: PAYLOAD });
  line.end();
  let received = 0;
  node.on("data", (/** @type {Buffer} */ bytes) => void (received += bytes.length));
  node.resume();
  await once(node, "close");
  assert.ok(received > COUNT * PAYLOAD.length, `${received} bytes came`);
  await ended;
  server.close();
});
