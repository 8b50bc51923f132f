// Retries: what is repeated, and what is said of the outcome. The nodes are scripts.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, test } from "node:test";

import { Client } from "../src/index.js";
import { takesKey } from "../src/keys.js";

const BREAK = Symbol("the end of the connection, without an answer");
const SILENCE = Symbol("no answer, and no end");

/** @typedef {symbol | [number, unknown] | Uint8Array[]} Word what a node answers; bytes as they are, piece by piece */

/** @type {(() => void)[]} */
const endings = [];
after(() => {
  for (const end of endings) end();
});

/**
 * A node that answers each request with the next word of its script, and ends when there is none.
 *
 * @param {...Word} script
 */
async function node(...script) {
  /** @type {string[]} */
  const asked = [];
  const server = createServer((socket) => {
    let text = "";
    socket.on("error", () => {});
    endings.push(() => socket.destroy());
    socket.on("data", async (bytes) => {
      text += bytes.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      const length = Number(/content-length: ([0-9]+)/i.exec(text)?.[1] ?? 0);
      if (head < 0 || text.length < head + 4 + length) return;
      asked.push(text);
      text = "";
      const word = script.shift() ?? BREAK;
      if (word === SILENCE) return;
      if (typeof word === "symbol") return void socket.destroy();
      if (word[0] instanceof Uint8Array) {
        for (const piece of word) {
          socket.write(/** @type {Uint8Array} */ (piece));
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        return void socket.end();
      }
      socket.write(answerOf(/** @type {[number, unknown]} */ (word)));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  endings.push(() => server.close());
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { asked, address: `http://127.0.0.1:${port}`, server };
}

/** @param {[number, unknown]} word */
function answerOf([status, body]) {
  const text = JSON.stringify(body);
  const head = `HTTP/1.1 ${status} X\r\ncontent-type: application/json\r\ncontent-length: `;
  return Buffer.from(`${head}${Buffer.byteLength(text)}\r\n\r\n${text}`);
}

/**
 * @param {{address: string}[]} nodes
 * @param {import("../src/index.js").ClientOptions} [options]
 */
function clientOf(nodes, options = {}) {
  const client = new Client(
    nodes.map(({ address }) => address),
    { patience: 400, ...options },
  );
  endings.push(() => client.close());
  return client;
}

/** @param {string} request */
function keyOf(request) {
  return /idempotency-key: (\S+)/i.exec(request)?.[1];
}

/** @type {Word} */
const DONE = [200, { documentSelfLink: "/core/examples/a" }];
/** @type {Word} */
const NO_OWNER = [503, { code: "NO_OWNER", outcome: "notApplied", message: "no" }];

test("a no of one node does not hide that another may have done it", async () => {
  const first = await node(BREAK, ...Array(99).fill(BREAK));
  const second = await node(...Array(99).fill(NO_OWNER));
  const made = clientOf([first, second]).kind("/core/examples").create({});
  await assert.rejects(made, { code: "NO_OWNER", outcome: "unknown", message: /may have happened/ });
});

test("a node's own unknown is not taken back by a later no", async () => {
  const unknown = [503, { code: "NO_OWNER", outcome: "unknown", message: "who knows" }];
  const only = await node(/** @type {Word} */ (unknown), ...Array(99).fill(NO_OWNER));
  const made = clientOf([only]).kind("/core/examples").create({});
  await assert.rejects(made, { code: "NO_OWNER", outcome: "unknown" });
});

test("an answer that did not look for the key does not settle what became of it", async () => {
  for (const [status, code, outcome] of [
    [403, "ACCESS_DENIED", "unknown"],
    [503, "QUORUM_NOT_MET", "unknown"],
    [422, "KEY_REUSED", "unknown"],
    [412, "PRECONDITION_FAILED", "notApplied"],
  ]) {
    const body = { code, outcome: "notApplied", message: "no" };
    const only = await node(BREAK, [Number(status), body]);
    const changed = clientOf([only]).kind("/core/examples").patch("a", {});
    await assert.rejects(changed, { code, outcome }, String(code));
  }
});

test("an error that is not a node's tells nothing of a write", async () => {
  const door = await node([502, "bad gateway"], [307, "elsewhere"]);
  const kind = clientOf([door]).kind("/core/examples");
  await assert.rejects(kind.create({}), { code: "HTTP_502", outcome: "unknown" });
  await assert.rejects(kind.create({}), { code: "HTTP_307", outcome: "unknown" });
});

test("without a key a later answer settles nothing", async () => {
  const there = { code: "ALREADY_EXISTS", outcome: "notApplied", message: "it is there" };
  const only = await node(BREAK, [409, there]);
  await assert.rejects(clientOf([only]).registerImmortal("a"), { outcome: "unknown" });
  assert.equal(keyOf(only.asked[0]), undefined);
});

test("what concerns one node is not asked of the next one too", async () => {
  const first = await node(BREAK);
  const second = await node(DONE);
  const stopped = clientOf([first, second]).request("DELETE", "/core/management");
  await assert.rejects(stopped, { code: "UNREACHABLE", outcome: "unknown" });
  assert.equal(second.asked.length, 0, "the second node was stopped as well");
});

test("a node that accepts and says nothing is passed over", async () => {
  const silent = await node(SILENCE);
  const second = await node(DONE);
  await clientOf([silent, second], { patience: 2_000 }).kind("/core/examples").create({});
  assert.equal(keyOf(silent.asked[0]), keyOf(second.asked[0]));
  assert.notEqual(keyOf(second.asked[0]), undefined);
});

test("what a silent node did is not known, and a node that is not there did nothing", async () => {
  const silent = await node(...Array(9).fill(SILENCE));
  await assert.rejects(clientOf([silent]).kind("/core/examples").create({}), {
    code: "OUT_OF_TIME",
    outcome: "unknown",
  });
  const gone = await node();
  gone.server.close();
  await assert.rejects(clientOf([gone]).kind("/core/examples").create({}), {
    code: "UNREACHABLE",
    outcome: "notApplied",
  });
});

test("a token goes to no other host, and is in no error", async () => {
  const elsewhere = await node(DONE);
  const redirect = `HTTP/1.1 307 X\r\nlocation: ${elsewhere.address}/\r\ncontent-length: 0\r\n\r\n`;
  const only = await node([Buffer.from(redirect)]);
  const client = clientOf([only], { token: "hush-hush" });
  const error = await client.request("GET", "/core/examples/a").catch((why) => why);
  assert.equal(error.code, "HTTP_307");
  assert.equal(elsewhere.asked.length, 0);
  const { inspect } = await import("node:util");
  assert.doesNotMatch(inspect(client, { depth: 9, showHidden: true }) + inspect(error), /hush/);
  // As a part of the host it would have been an address elsewhere.
  for (const path of ["@elsewhere/a", "core/examples", ""])
    await assert.rejects(client.request("GET", path), TypeError, path);
  for (const address of ["http://ann:hush@host:1/x", "http://ann:hush@host", "ann:hush@host:x"]) {
    assert.throws(
      () => new Client(address),
      (why) => why instanceof TypeError && !why.message.includes("hush"),
      address,
    );
  }
});

test("a name that is a utility's, or would lead elsewhere, is refused", async () => {
  const only = await node();
  const client = clientOf([only]);
  const kind = client.kind("/app/seats");
  for (const name of ["config", "stats", "template", "available", "subscriptions", "ui"]) {
    await assert.rejects(kind.get(name), new RegExp(`no document can have the name '${name}'`));
    await assert.rejects(kind.delete(`/app/seats/${name}`), TypeError);
    assert.throws(() => kind.changes({ name }), TypeError);
  }
  for (const name of ["", "..", "A1/config", "A1?documentVersion=0", "a b", "a#b", "50%"]) {
    await assert.rejects(kind.patch(name, {}), TypeError, name);
    await assert.rejects(client.immortal(name), TypeError, name);
    await assert.rejects(client.impulse(name, 1), TypeError, name);
  }
  assert.equal(only.asked.length, 0);
});

test("a null that a node would pass over is refused, and undefined is not there", async () => {
  const only = await node(DONE, DONE);
  const kind = /** @type {import("../src/index.js").Kind<any>} */ (
    clientOf([only]).kind("/core/examples")
  );
  await assert.rejects(kind.patch("a", { n: 1, holder: null }), /'holder' is null.*mergePatch/);
  assert.equal(only.asked.length, 0);
  await kind.patch("a", { holder: null }, { mergePatch: true });
  await kind.patch("a", { n: 1, holder: undefined });
  assert.deepEqual(
    only.asked.map((text) => text.split("\r\n\r\n")[1]),
    ['{"holder":null}', '{"n":1}'],
  );
});

test("which writes take a key", () => {
  for (const [path, takes] of /** @type {[string, boolean][]} */ ([
    ["/core/examples", true],
    ["/core/immortals", false],
    ["/core/immortals/a/impulses", true],
    ["/core/immortals/impulses", false],
    ["/core/immortals/config/impulses", true],
    ["/core/examples/config", false],
    ["/core/examples/one/stats", false],
    ["/core/authz/roles", true],
    ["/core/node-selectors/default", false],
    ["/core/sql", false],
    ["/core/node-selectors/default/forwarding?path=/core/examples&target=ALL", true],
    ["/core/auth/tokens", false],
    ["/core/auth/join-tokens/", false],
    ["/core/auth/tokens/one", true],
    ["/core/ambrosia/cra/AmbrosiaBinaries/a-a0", false],
  ])) {
    assert.equal(takesKey("POST", path, {}), takes, path);
  }
});

/** @param {number} n */
function change(n) {
  const document = { documentSelfLink: "/app/a/1", documentVersion: n, text: "漢字 🎉" };
  return { link: "/app/a/1", version: n, action: "PATCH", isMatch: true, document, token: `t${n}` };
}

/** @param {string} request */
function afterOf(request) {
  return /after=([a-z0-9]+)/.exec(request)?.[1];
}

test("a feed loses nothing when an answer is cut, in the middle of a letter too", async () => {
  const page = answerOf([200, { changes: [change(1), change(2)], token: "t2" }]);
  const letter = page.indexOf(Buffer.from("🎉")) + 2;
  const only = await node(
    [page.subarray(0, letter)],
    [page.subarray(0, page.length - 3)],
    [Buffer.from("HTTP/1.1 200 X\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n<>")],
    [page.subarray(0, letter), page.subarray(letter, letter + 1), page.subarray(letter + 1)],
  );
  const abort = new AbortController();
  const reader = clientOf([only]).kind("/app/a").changes({ after: "t0", signal: abort.signal });
  const told = [];
  for await (const one of reader) {
    told.push([one.version, /** @type {any} */ (one.document).text]);
    if (told.length === 2) break;
  }
  assert.deepEqual(told, [1, 2].map((n) => [n, "漢字 🎉"]));
  assert.deepEqual(only.asked.map(afterOf), ["t0", "t0", "t0", "t0"]);
});

test("a reader that stops in the middle goes on there, and its token is no further", async () => {
  const only = await node(
    [200, { changes: [change(1), change(2), change(3)], token: "t3" }],
    [200, { changes: [change(2), change(3)], token: "t3" }],
  );
  const reader = clientOf([only]).kind("/app/a").changes({ after: "t0" });
  for await (const { version } of reader) {
    assert.equal(reader.token, `t${version}`);
    break;
  }
  const told = [];
  for await (const { version } of reader) {
    told.push(version);
    if (version === 3) break;
  }
  assert.deepEqual(told, [2, 3]);
  assert.deepEqual(only.asked.map(afterOf), ["t0", "t1"]);
});
