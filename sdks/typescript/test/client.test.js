// The client against real nodes that are killed: nothing lost, nothing doubled.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  AmritaError,
  Client,
  etagOf,
  parse,
  quoted,
  stringify,
  TaskError,
  where,
} from "../src/index.js";
import { cluster } from "../src/testing.js";
import { pause } from "./helpers.js";

/** @typedef {{row: string, price: number, balance?: bigint, tags?: string[]}} Seat */


/** @type {import("../src/testing.js").Cluster} */
let nodes;
/** @type {Client} */
let client;
/** @type {import("../src/index.js").Kind<Seat>} */
let seats;

before(async () => {
  nodes = await cluster();
  client = nodes.client();
  seats = await client.kinds.ensure(
    {
      link: "/app/seats",
      schema: {
        type: "object",
        required: ["row"],
        properties: {
          row: { type: "string" },
          price: { type: "number", default: 10 },
          balance: { type: "integer" },
          tags: { type: "array", items: { type: "string" } },
        },
      },
      merge: ["tags"],
    },
    { bigints: ["balance"] },
  );
});

after(async () => {
  client?.close();
  await nodes?.stop();
});

test("many writes are one request, and those of one partition are done all or none", async () => {
  const post = (/** @type {string} */ name) => ({
    method: /** @type {"POST"} */ ("POST"),
    path: "/app/seats",
    body: { row: "B", documentSelfLink: name },
  });
  const requests = [post("{42}/a"), post("{42}/b")];
  const made = await client.batch(requests, { atomic: "all", key: "a batch" });
  assert.deepEqual([made.outcome, made.requests.length], ["applied", 2]);
  const again = await client.batch(requests, { atomic: "all", key: "a batch" });
  assert.deepEqual(again, made, "it is done once");
  const first = made.requests[0].body;
  assert.equal((await seats.get(first.documentSelfLink)).row, "B");
  const changed = client.batch([
    { method: "PATCH", path: "/app/seats/{42}/b", body: { price: 1 } },
    { method: "PATCH", path: "/app/seats/{42}/a", body: { price: 1 }, ifMatch: '"1.9.9"' },
  ]);
  await assert.rejects(changed, { status: 412, outcome: "notApplied" });
  assert.equal((await seats.get("/app/seats/{42}/b")).price, 10);
});

test("a document is made, read, changed, replaced and deleted", async () => {
  const made = await seats.create({ row: "A", price: 12.5 }, { name: "one" });
  assert.equal(made.documentSelfLink, "/app/seats/one");
  assert.equal((await seats.get("one")).price, 12.5);
  const changed = await seats.patch("one", { price: 13 }, { ifMatch: made });
  assert.equal(changed.documentVersion, 1);
  await assert.rejects(seats.patch("one", { price: 14 }, { ifMatch: made }), {
    code: "PRECONDITION_FAILED",
    status: 412,
    outcome: "notApplied",
  });
  assert.equal((await seats.get("one", { version: 0 })).price, 12.5);
  const answer = await client.request("GET", "/app/seats/one");
  assert.equal(
    answer.etag,
    etagOf(answer.body),
    "the tag is made from the fields as the node makes it",
  );
  assert.equal((await seats.put("one", { row: "B", price: 1 })).row, "B");
  await seats.delete("one");
  await seats.delete("one");
  assert.equal(await seats.find("one"), undefined);
  await assert.rejects(seats.get("one"), { name: "AmritaError", code: "NOT_FOUND", status: 404 });
});

test("whole numbers and doubles come back with all their digits", async () => {
  const big = { row: "A", price: 0.1 + 0.2, balance: 2n ** 63n - 1n };
  const made = await seats.create(big, { name: "big" });
  assert.equal(made.balance, 2n ** 63n - 1n);
  const read = await seats.get("big");
  assert.deepEqual([read.balance, read.price], [9223372036854775807n, 0.30000000000000004]);
  assert.equal(
    (await seats.patch("big", { balance: 5n })).balance,
    5n,
    "a small one is a bigint, too, in a field that is named",
  );
  await assert.rejects(seats.patch("big", { balance: 2n ** 64n }), {
    code: "BAD_BODY",
    outcome: "notApplied",
  });
  const [listed] = await all(seats.list({ filter: "row eq 'A'" }));
  assert.equal(listed.balance, 5n);
});

test("numbers that neither a double nor 64 bits hold come back digit for digit", async () => {
  const free = await client.kinds.ensure({ link: "/app/free", schema: { type: "object" } });
  const text = "[0.10000000000000000001,36893488147419103232,-1e-400,-0.0,9007199254740993,1e+22]";
  const kind = /** @type {import("../src/index.js").Kind<any>} */ (free);
  await kind.create({ all: parse(text) }, { name: "one" });
  assert.equal(stringify((await kind.get("one")).all), text);
  await kind.put("one", { ...(await kind.get("one")), more: 1 });
  assert.equal(stringify((await kind.get("one")).all), text, "what was read can be written back");
  await assert.rejects(kind.put("one", { all: Number.NaN }), /value\.all: JSON has no NaN/);
});

test("an error has its code, its outcome and its words", async () => {
  await seats.create({ row: "A", price: 1 }, { name: "twice" });
  await assert.rejects(seats.create({ row: "A", price: 1 }, { name: "twice" }), {
    code: "ALREADY_EXISTS",
    status: 409,
    outcome: "notApplied",
  });
  const wrong = /** @type {any} */ ({ row: 7, price: "x" });
  await assert.rejects(
    seats.create(wrong),
    (error) =>
      error instanceof AmritaError &&
      error.outcome === "notApplied" &&
      /'price'/.test(error.message),
  );
  await assert.rejects(client.request("POST", "/core/node-groups/default", {}, { key: "k" }), {
    status: 400,
  });
});

test("a key makes a repetition harmless, and names a document", async () => {
  const state = { row: "K", price: 1 };
  const one = await seats.create(state, { key: "the same" });
  const two = await seats.create(state, { key: "the same" });
  assert.equal(one.documentSelfLink, two.documentSelfLink);
  await assert.rejects(seats.create({ row: "other", price: 1 }, { key: "the same" }), {
    code: "KEY_REUSED",
    status: 422,
  });
});

test("lists and queries stream their pages", async () => {
  const names = Array.from({ length: 23 }, (_, n) => `page-${String(n).padStart(2, "0")}`);
  for (const name of names)
    await seats.create({ row: "it's", price: names.indexOf(name) }, { name });
  const filter = `row eq ${quoted("it's")}`;
  const listed = await all(seats.list({ filter, page: 5 }));
  assert.deepEqual(
    listed.map((seat) => seat.documentSelfLink.split("/").pop()),
    names,
  );
  assert.equal((await all(seats.list({ filter, top: 7, page: 3 }))).length, 7);
  assert.equal(await seats.count({ filter }), 23);
  const query = where({
    documentKind: "app:seats",
    row: { prefix: "it" },
    price: { min: 10, max: 19 },
  });
  const found = await all(
    client.query(query, { page: 4, sort: { field: "price", type: "DOUBLE", descending: true } }),
  );
  assert.deepEqual(
    found.map((seat) => /** @type {any} */ (seat).price),
    [19, 18, 17, 16, 15, 14, 13, 12, 11, 10],
  );
  assert.equal(await client.count(query), 10);
});

test("kinds are shown, changed and removed while the cluster runs", async () => {
  const kind = await client.kinds.create({
    link: "/app/passing",
    schema: { type: "object", properties: { a: { type: "string" } } },
  });
  await kind.create(/** @type {any} */ ({ a: "x" }), { name: "one" });
  assert.equal((await client.kinds.show("/app/passing")).link, "/app/passing");
  await client.kinds.ensure({
    link: "/app/passing",
    schema: { type: "object", properties: { a: { type: "integer" } } },
  });
  await assert.rejects(kind.create(/** @type {any} */ ({ a: "x" }), { name: "two" }), {
    status: 400,
  });
  /** @type {import("../src/index.js").KindDefinition} */
  const narrow = {
    link: "/app/passing",
    schema: { type: "object", required: ["a"], properties: { a: { type: "array" } } },
  };
  await client.kinds.ensure({ ...narrow, merge: ["a"], retentionLimit: 5 });
  const shown = await client.kinds.show("/app/passing");
  assert.deepEqual([shown.merge, shown.retentionLimit], [["a"], 5]);
  await client.kinds.ensure(narrow);
  const again = await client.kinds.show("/app/passing");
  assert.equal(again.documentVersion, shown.documentVersion, "what is not named stays");
  await client.kinds.ensure({ ...narrow, merge: null, retentionLimit: null });
  await client.kinds.ensure({ ...narrow, merge: null });
  const without = await client.kinds.show("/app/passing");
  assert.deepEqual([without.merge, without.retentionLimit], [undefined, undefined]);
  assert.deepEqual(without.schema, narrow.schema);
  assert.equal(without.documentVersion, shown.documentVersion + 1, "the same changes nothing");
  const changed = await client.kinds.change("/app/passing", { documentation: null, merge: ["a"] });
  assert.deepEqual(changed.merge, ["a"]);
  const links = (await all(client.kinds.list())).map(({ link }) => link);
  assert.ok(links.includes("/app/passing") && links.includes("/app/seats"), links.join());
  const refused = { code: "REFUSED", outcome: "notApplied" };
  await assert.rejects(client.kinds.remove("/app/passing"), refused);
  await client.kinds.remove("/app/passing", { withDocuments: true });
  await assert.rejects(kind.get("one"), { status: 404 });
  await client.kinds.ensure(narrow);
  assert.equal(/** @type {any} */ (await kind.get("one")).a, "x", "it is there again");
});

test("a definition does not take away what the program of a kind has said", async () => {
  const schema = { type: "object", properties: { row: { type: "string" } } };
  const link = "/app/served";
  await client.kinds.create({ link, version: "2.1", handlers: ["put"], actions: ["hold"], schema });
  await client.kinds.ensure({ link, schema });
  const other = { type: "object" };
  const older = { code: "OLDER_DEFINITION", outcome: "notApplied" };
  await assert.rejects(client.kinds.ensure({ link, schema: other }), older);
  await assert.rejects(client.kinds.ensure({ link, schema: other, version: "2.0.9" }), older);
  const kept = await client.kinds.show(link);
  assert.deepEqual([kept.handlers, kept.actions, kept.schema], [["put"], ["hold"], schema]);
  await client.kinds.ensure({ link, schema: other, version: "2.10" });
  const newer = await client.kinds.show(link);
  assert.deepEqual([newer.actions, newer.schema, newer.version], [["hold"], other, "2.10"]);
});

test("a task is started and awaited", async () => {
  const task = await client.startTask("/core/example-tasks");
  assert.equal((await task.wait()).taskInfo.stage, "FINISHED");
  assert.equal((await client.task(task.link).wait()).documentSelfLink, task.link);
  const gone = await client.startTask("/core/example-tasks", {});
  await gone.cancel().catch(() => {});
  const ended = await gone.wait().catch((error) => error);
  assert.ok(
    ended instanceof TaskError ? ended.stage === "CANCELLED" : ended.taskInfo.stage === "FINISHED",
  );
});

test("addresses, and nodes that are not there", async () => {
  for (const address of ["ftp://x", "http://a/b", ""])
    assert.throws(() => new Client(address), TypeError, address);
  const nobody = new Client("127.0.0.1:1", { patience: 300 });
  await assert.rejects(nobody.kind("/core/examples").get("x"), {
    code: "UNREACHABLE",
    outcome: undefined,
  });
  await assert.rejects(nobody.kind("/core/examples").create({ name: "x" }), {
    code: "UNREACHABLE",
    outcome: "notApplied",
  });
  const one = new Client(["127.0.0.1:1", nodes.addresses[0]]);
  assert.ok(await one.request("GET", "/core/management"));
  const signal = AbortSignal.timeout(50);
  await assert.rejects(
    client.request("GET", "/app/seats/never", undefined, { pragma: "xn-queue", signal }),
    { name: "TimeoutError" },
  );
  one.close();
});

test("writes while nodes are killed: each is there once", { timeout: 120_000 }, async () => {
  await seats.create({ row: "counter", price: 0 }, { name: "counter" });
  let isOver = false;
  const writer = async (/** @type {number} */ number) => {
    const own = nodes.client();
    const mine = own.kind("/app/seats");
    let made = 0;
    while (!isOver) {
      // Without a name, so that a repetition that is none would make a second document.
      await mine.create({ row: `w${number}`, price: made });
      await own.kind("/app/seats").update("counter", (seat) => ({
        .../** @type {any} */ (seat),
        price: /** @type {any} */ (seat).price + 1,
      }));
      made += 1;
    }
    own.close();
    return made;
  };
  const writers = [0, 1, 2].map(writer);
  for (const id of ["n1", "n2", "n3", await nodes.ownerOf("/app/seats/counter")]) {
    await pause(400);
    await nodes.kill(id);
    await pause(400);
    await nodes.start(id);
    await nodes.ready();
  }
  isOver = true;
  const made = await Promise.all(writers);
  for (const [number, count] of made.entries()) {
    const prices = (await all(seats.list({ filter: `row eq 'w${number}'` })))
      .map(({ price }) => price)
      .sort((a, b) => a - b);
    assert.deepEqual(
      prices,
      Array.from({ length: count }, (_, n) => n),
      `writer ${number}`,
    );
  }
  const sum = made.reduce((a, b) => a + b, 0);
  assert.ok(sum > 20, `only ${sum} writes`);
  assert.equal((await seats.get("counter")).price, sum);
});

test(
  "a feed while nodes are killed: each change once and in order",
  { timeout: 120_000 },
  async () => {
    const abort = new AbortController();
    const own = nodes.client();
    const reader = own
      .kind("/app/seats")
      .changes({ filter: "row eq 'feed'", signal: abort.signal });
    await reader.begin();
    /** @type {Map<string, number[]>} */
    const told = new Map();
    const reading = (async () => {
      for await (const { link, version } of reader)
        told.set(link, [...(told.get(link) ?? []), version]);
    })();
    /** @type {Map<string, number>} */
    const written = new Map();
    let isOver = false;
    const writing = (async () => {
      for (let n = 0; !isOver; n += 1) {
        const name = `feed-${n % 7}`;
        const link = seats.linkOf(name);
        const { documentVersion } = written.has(link)
          ? await seats.patch(name, { price: n })
          : await seats.create({ row: "feed", price: n }, { name });
        written.set(link, documentVersion);
      }
    })();
    for (const id of ["n1", "n2", "n3"]) {
      await pause(500);
      await nodes.kill(id);
      await pause(300);
      await nodes.start(id);
      await nodes.ready();
    }
    isOver = true;
    await writing;
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await pause(50)) {
      if ([...written].every(([link, version]) => told.get(link)?.at(-1) === version)) break;
    }
    abort.abort();
    await reading;
    for (const [link, version] of written) {
      assert.deepEqual(
        told.get(link),
        Array.from({ length: version + 1 }, (_, n) => n),
        link,
      );
    }
    own.close();
  },
);

test(
  "who follows knows everything, and goes on with a token in another process",
  async () => {
    const abort = new AbortController();
    for (const name of ["f1", "f2"]) await seats.create({ row: "follow", price: 0 }, { name });
    const seen = [];
    // What is written between the token and the reading is told once, as what was found.
    const follower = client.kind("/app/seats");
    follower.list = async function* (options) {
      await seats.patch("f1", { price: 0.5 });
      yield* client.kind("/app/seats").list(options);
    };
    for await (const { action, link, version, token } of follower.follow({
      filter: "row eq 'follow'",
      signal: abort.signal,
    })) {
      seen.push(`${action} ${link.split("/").pop()} ${version}`);
      if (seen.length === 2) {
        await seats.patch("f1", { price: 1 });
        await seats.create({ row: "follow", price: 2 }, { name: "f3" });
        await seats.delete("f2");
      }
      if (seen.length === 5) {
        await seats.patch("f3", { price: 3 });
        const other = new Client(nodes.addresses[1]).kind("/app/seats");
        for await (const change of other.changes({
          after: token,
          filter: "row eq 'follow'",
          before: true,
        })) {
          const now = /** @type {any} */ (change.document).price;
          const was = /** @type {any} */ (change.before)?.price;
          assert.deepEqual([change.link, was, now], ["/app/seats/f3", 2, 3]);
          break;
        }
        abort.abort();
      }
    }
    assert.deepEqual(seen.slice(0, 2).sort(), ["FOUND f1 1", "FOUND f2 0"]);
    assert.deepEqual(seen.slice(2, 5).sort(), ["DELETE f2 1", "PATCH f1 2", "POST f3 0"]);
  },
);

test("a reader that was away for long is told all", { timeout: 60_000 }, async () => {
  const reader = seats.changes();
  await reader.begin();
  // More than a node keeps in memory.
  const row = "x".repeat(240_000);
  await seats.create({ row: "large", price: 0 }, { name: "large" });
  for (let n = 0; n < 40; n += 1)
    await Promise.all([1, 2, 3, 4].map(() => seats.put("large", { row, price: n })));
  const versions = [];
  for await (const { link, version } of reader) {
    if (link !== "/app/seats/large") continue;
    versions.push(version);
    if (version === 160) break;
  }
  assert.deepEqual(versions, [...Array(161).keys()]);
});

/**
 * @template T
 * @param {AsyncIterable<T>} of
 */
async function all(of) {
  /** @type {T[]} */
  const found = [];
  for await (const one of of) found.push(one);
  return found;
}
