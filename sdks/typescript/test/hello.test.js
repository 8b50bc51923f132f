// The Hello programs against real nodes; the programs and the nodes are killed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { cluster } from "../src/testing.js";
import { Program, killPrograms, until } from "./helpers.js";

const SCRIPT = "examples/hello.js";

/** @type {import("../src/testing.js").Cluster} */
let nodes;
/** @type {import("../src/index.js").Client} */
let client;

before(async () => {
  nodes = await cluster();
  client = nodes.client();
  const replicas = nodes.nodes.map(({ id }) => id);
  for (const name of ["server", "client1", "client2", "client3", "client"])
    await client.registerImmortal(name, { replicas });
});

after(async () => {
  killPrograms();
  client?.close();
  await nodes?.stop();
});

/**
 * A copy of a program beside a node: by the socket in its sandbox, or by its address.
 *
 * @param {string} which
 * @param {string} id
 */
function copy(which, id) {
  const node = nodes.node(id);
  return new Program([
    SCRIPT,
    which,
    "--node",
    id === "n2" ? node.sandbox : node.address,
    "--numbers",
  ]);
}

/** @param {string} name */
async function primaryOf(name) {
  /** @type {any} */
  let found;
  await until(`'${name}' has a primary`, async () => {
    const shown = await client.immortal(name).catch(() => undefined);
    found = shown?.replicas.find((/** @type {any} */ replica) => replica.role === "PRIMARY")?.node;
    return found;
  });
  return found;
}

/** @param {string} name */
async function inputsOf(name) {
  return (await client.immortal(name).catch(() => undefined))?.inputs ?? 0;
}

test(
  "a server, a client killed at its prompt, one that is typed into, one that ends itself",
  { timeout: 120_000 },
  async () => {
    const servers = ["n1", "n2", "n3"].map((id) => copy("server", id));
    const one = copy("client1", "n1");
    await one.says("!! Client: Press enter to continue (will send 2&3)");
    await one.kill();
    const again = copy("client1", "n1");
    await again.says("!! Client: Press enter to continue (will send 2&3)");
    again.type("");
    await again.says("!! Client: Press enter to shutdown.");
    await again.says("!! Client: Sent message 3.");
    again.type("");
    assert.equal(await again.ended, 0);
    for (const server of servers) await server.says("#3 client1: !! Client: Hello World 3!");

    const two = copy("client2", "n2");
    await two.says(/^Enter a message/);
    two.type("größer als 2^53: 9007199254740993");
    await servers[0].says("#4 client2: größer als 2^53: 9007199254740993");
    two.type("");
    assert.equal(await two.ended, 0);

    const three = copy("client3", "n3");
    assert.equal(await three.ended, 0);
    assert.deepEqual(
      three.lines.filter((line) => /completed/.test(line)),
      [1, 2, 3].map(
        (n) =>
          `!! Client: Message #${n} completed. Server acknowledges processing ${n + 4} messages.`,
      ),
    );
    for (const server of servers) {
      await server.says(/^#7 /);
      assert.deepEqual(
        server.lines.map((line) => line.split(" ")[0]),
        [1, 2, 3, 4, 5, 6, 7].map((n) => `#${n}`),
      );
      await server.kill();
    }
  },
);

test(
  "messages while programs and nodes are killed: none is lost, none is handled twice",
  { timeout: 240_000 },
  async () => {
    /** @type {Map<string, {server: Program, numbers: Program}>} */
    const copies = new Map();
    for (const { id } of nodes.nodes)
      copies.set(id, { server: copy("server", id), numbers: copy("numbers", id) });
    const all = [...copies.values()].map(({ numbers }) => numbers);
    /** Waits until messages have gone on for a while. */
    const goesOn = async (/** @type {number} */ more) => {
      const before = await inputsOf("client");
      await until(`${more} more messages`, async () => (await inputsOf("client")) >= before + more);
    };
    await goesOn(20);
    for (const what of ["server", "client", "node", "server", "node", "both"]) {
      const name = what === "client" ? "client" : "server";
      const id = await primaryOf(name);
      const here = copies.get(id) ?? assert.fail(`no copy beside ${id}`);
      if (what === "node" || what === "both") await nodes.kill(id);
      if (what === "server" || what === "both") {
        await here.server.kill();
        here.server = copy("server", id);
      }
      if (what === "client") {
        await here.numbers.kill();
        here.numbers = copy("numbers", id);
        all.push(here.numbers);
      }
      await goesOn(20);
      if (what === "node" || what === "both") await nodes.start(id);
      await goesOn(20);
    }
    const checkpoint = await client
      .request("POST", "/core/immortals/server/checkpoint")
      .catch((error) => error);
    assert.ok(checkpoint.body !== undefined || checkpoint.code !== undefined);
    await client.impulse("client", 9);
    const over = /^Sent ([0-9]+) messages in all/;
    for (const { numbers } of copies.values()) await numbers.says(over);
    const total = Number(
      over.exec(
        all[0].lines.find((line) => over.test(line)) ??
          all[1].lines.find((line) => over.test(line)) ??
          "",
      )?.[1],
    );
    assert.ok(total > 200, `${total} messages`);
    // The server had 7 messages of the other clients. Each line of each copy, replays included, says
    // the same of a message: nothing was lost, nothing came twice.
    for (const numbers of all) {
      const told = numbers.lines
        .map((line) =>
          /^Message #([0-9]+) completed. Server acknowledges processing ([0-9]+)/.exec(line),
        )
        .filter((found) => found !== null);
      for (const found of told) assert.equal(Number(found[2]), Number(found[1]) + 7, found[0]);
    }
    for (const { server, numbers } of copies.values()) {
      await server.says(new RegExp(`^#${total + 7} client: Number ${total}!`));
      let before = 0;
      for (const line of server.lines) {
        const [, count, sender, number] =
          /^#([0-9]+) ([a-z0-9]+): (?:Number ([0-9]+)!)?/.exec(line) ?? assert.fail(line);
        if (sender === "client") assert.equal(Number(count), Number(number) + 7, line);
        // One after the other, but where a copy began anew from a checkpoint.
        assert.ok(
          Number(count) === before + 1 || Number(count) <= before || before === 0,
          `${line} after #${before}`,
        );
        before = Number(count);
      }
      await server.kill();
      await numbers.kill();
    }
  },
);

test(
  "a program that is not registered, and one that is attached already, are told so",
  { timeout: 60_000 },
  async () => {
    const nobody = new Program([
      SCRIPT,
      "server",
      "--node",
      nodes.addresses[0],
      "--instance",
      "nobody",
    ]);
    assert.equal(await nobody.ended, 1);
    assert.match(nobody.errors, /UNKNOWN_INSTANCE/);
    const wrong = new Program([SCRIPT, "server", "--node", "ftp://127.0.0.1:1"]);
    assert.equal(await wrong.ended, 1);
    assert.match(wrong.errors, /is no address of a node/);
  },
);
