// A chat room with presence, by a feed of changes and nothing else:
//
//     amrita up                                                # three nodes, in another terminal
//     node examples/chat.js --room lobby --name anna           # and in a third: --name ben
//
// Everybody in a room has one document. To be there is that the document exists: it expires unless
// its owner touches it. To say something is a change of it. A feed tells each change once, and in
// order for each document; so nobody misses a line, hears one twice or in another order, whichever
// node dies meanwhile.
// @ts-check
import { createInterface } from "node:readline";

import { AmritaError, Client, FellBehindError, quoted } from "@amrita/sdk";

/** @typedef {{room: string, name: string, said: number, line: string, documentExpirationTimeMicros?: number}} Guest */

/** Who gives no sign for so long has left. */
const AWAY_MILLIS = 4_000;
const SIGN_MILLIS = 1_000;

const option = (/** @type {string} */ name, /** @type {string | undefined} */ otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const room = option("room", "lobby") ?? "lobby";
const name = option("name", process.env.USER) ?? "somebody";
const address = option("address", process.env.AMRITA_ADDRESS);
const client = new Client(address);
const print = (/** @type {string} */ line) => process.stdout.write(`${line}\n`);

/** @type {import("@amrita/sdk").Kind<Guest>} */
const guests = await client.kinds.ensure({
  link: "/app/chat",
  documentation: "Who is in a room, and what that one has said last.",
  options: ["IDEMPOTENT_POST"],
  retentionLimit: 100,
  schema: {
    type: "object",
    required: ["room", "name", "said", "line"],
    properties: {
      room: { type: "string" },
      name: { type: "string" },
      said: { type: "integer" },
      line: { type: "string" },
    },
  },
});
const me = `${room}.${name}`;
let said = 0;

/** Changes my document, or makes it: at first, and after a long absence. @param {string} [line] */
async function touch(line) {
  if (line !== undefined) said += 1;
  const alive = { documentExpirationTimeMicros: (Date.now() + AWAY_MILLIS) * 1_000 };
  const change = line === undefined ? alive : { ...alive, line, said };
  try {
    await guests.patch(me, change);
  } catch (error) {
    if (!(error instanceof AmritaError) || error.code !== "NOT_FOUND") throw error;
    await guests.create(
      { room, name, said, line: line ?? "", ...alive },
      { name: me, pragma: "xn-force-index-update" },
    );
  }
}

/** One change of mine after the other. */
let last = Promise.resolve();
const inOrder = (/** @type {() => Promise<unknown>} */ work) =>
  (last = last.then(work).then(
    () => {},
    (error) => void print(`! ${error.message}`),
  ));

/** Shows what happens in the room, for ever. @param {AbortSignal} signal */
async function listen(signal) {
  /** How many lines of each guest are known. @type {Map<string, number>} */
  const known = new Map();
  while (!signal.aborted) {
    try {
      for await (const { action, document } of guests.follow({
        filter: `room eq ${quoted(room)}`,
        signal,
      })) {
        show(known, action, document);
      }
    } catch (error) {
      if (!(error instanceof FellBehindError)) throw error;
      print("! some lines were missed");
    }
  }
}

/**
 * @param {Map<string, number>} known
 * @param {string} action
 * @param {Guest} guest
 */
function show(known, action, guest) {
  const heard = known.get(guest.name);
  if (action === "EXPIRE" || action === "DELETE") {
    if (heard !== undefined) print(`* ${guest.name} has left`);
    known.delete(guest.name);
    return;
  }
  if (heard === undefined) print(`* ${guest.name} is here`);
  // What was said before we came, is not for us.
  const isNew = action !== "FOUND" && guest.line !== "" && guest.said > (heard ?? 0);
  if (isNew) print(`${guest.name}: ${guest.line}`);
  known.set(guest.name, guest.said);
}

const there = await guests.find(me);
said = there?.said ?? 0;
const over = new AbortController();
const listening = listen(over.signal);
await inOrder(() => touch());
const signs = setInterval(() => inOrder(() => touch()), SIGN_MILLIS);

for await (const line of createInterface({ input: process.stdin, terminal: false })) {
  if (line !== "") inOrder(() => touch(line));
}
// The end of the input (Ctrl-D): leave in good order.
clearInterval(signs);
await inOrder(() => guests.delete(me));
over.abort();
await listening;
client.close();
