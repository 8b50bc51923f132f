// The examples, killed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { cluster } from "../src/testing.js";
import { Program, killPrograms, pause, until } from "./helpers.js";


/** @type {import("../src/testing.js").Cluster} */
let nodes;
/** @type {import("../src/index.js").Client} */
let client;

before(async () => {
  nodes = await cluster();
  client = nodes.client();
});

after(async () => {
  killPrograms();
  client?.close();
  await nodes?.stop();
});

test(
  "a chat room: every line once and in order, and who is killed has left",
  { timeout: 180_000 },
  async () => {
    const enter = (/** @type {string} */ name) =>
      new Program([
        "examples/chat.js",
        "--room",
        "attic",
        "--name",
        name,
        "--address",
        nodes.addresses.join(","),
      ]);
    const anna = enter("anna");
    const ben = enter("ben");
    const cleo = enter("cleo");
    const everybody = [anna, ben, cleo];
    for (const guest of everybody)
      for (const name of ["anna", "ben", "cleo"]) await guest.says(`* ${name} is here`);
    let number = 0;
    const talk = async (/** @type {number} */ lines) => {
      for (let n = 0; n < lines; n += 1) {
        number += 1;
        for (const guest of everybody) guest.type(`line ${number}`);
        await pause(20);
      }
    };
    for (const id of ["n1", "n2", "n3"]) {
      await talk(10);
      await nodes.kill(id);
      await talk(10);
      await nodes.start(id);
      await nodes.ready();
    }
    for (const guest of everybody)
      for (const name of ["anna", "ben", "cleo"]) await guest.says(`${name}: line ${number}`);
    for (const guest of everybody) {
      for (const name of ["anna", "ben", "cleo"]) {
        const heard = guest.lines.filter((line) => line.startsWith(`${name}: `));
        assert.deepEqual(
          heard,
          Array.from({ length: number }, (_, n) => `${name}: line ${n + 1}`),
        );
      }
      assert.ok(
        !guest.lines.some((line) => line.startsWith("!") || line.endsWith("has left")),
        guest.lines.join("\n"),
      );
    }
    await cleo.kill();
    await anna.says("* cleo has left");
    const back = enter("cleo");
    await ben.says("* cleo is here", ben.lines.indexOf("* cleo has left"));
    back.type("still me");
    await anna.says("cleo: still me");
    ben.process.stdin.end();
    assert.equal(await ben.ended, 0);
    await anna.says("* ben has left");
    for (const guest of [anna, back]) await guest.kill();
  },
);

test("a nightly job: each night once, whatever dies", { timeout: 180_000 }, async () => {
  const copy = (/** @type {string} */ id) =>
    new Program([
      "examples/nightly.js",
      "--node",
      nodes.node(id).address,
      "--address",
      nodes.addresses.join(","),
      "--every",
      "0.5",
    ]);
  const copies = new Map(nodes.nodes.map(({ id }) => [id, copy(id)]));
  const reports = client.kind("/app/reports");
  /** @returns {Promise<any[]>} */
  const filed = async () => {
    const found = [];
    try {
      for await (const report of reports.list()) found.push(report);
    } catch {
      // Its kind is defined by the job itself.
    }
    return found;
  };
  await until("two nights", async () => (await filed()).length >= 2);
  const orders = client.kind("/app/orders");
  for (let n = 0; n < 10; n += 1) await orders.create({ amount: 2n ** 60n });
  for (const what of ["program", "node", "program", "node"]) {
    const shown = await client.immortal("nightly");
    const id =
      shown.replicas.find((/** @type {any} */ replica) => replica.role === "PRIMARY")?.node ?? "n1";
    if (what === "node") await nodes.kill(id);
    await copies.get(id)?.kill();
    const before = (await filed()).length;
    await until("another night", async () => (await filed()).length > before);
    if (what === "node") await nodes.start(id);
    copies.set(id, copy(id));
    await until("another night", async () => (await filed()).length > before + 2);
  }
  const all = (await filed()).map(({ night, documentVersion }) => [night, documentVersion]);
  assert.deepEqual(
    all,
    Array.from({ length: all.length }, (_, n) => [n + 1, 0]),
  );
  const last = await client
    .kind("/app/reports", { bigints: ["sum"] })
    .get(`night-${String(all.length).padStart(6, "0")}`);
  assert.equal(/** @type {any} */ (last).sum, 10n * 2n ** 60n);
  for (const program of copies.values()) await program.kill();
});
