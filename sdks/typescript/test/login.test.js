// A cluster that demands logins: passwords, tokens, and programs that attach with one.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Impulses, contract, integer, method, program, run } from "../src/immortal/index.js";
import { Client } from "../src/index.js";
import { cluster } from "../src/testing.js";
import { until } from "./helpers.js";

test("a login, a token, and a program with a token", async () => {
  const folder = mkdtempSync(join(tmpdir(), "amrita-login-"));
  const secret = join(folder, "secret");
  writeFileSync(secret, "a secret of the links, of more than 32 characters", { mode: 0o600 });
  const nodes = await cluster({ arguments: ["--auth", "--link-secret-file", secret] });
  try {
    const files = nodes.nodes.map(({ sandbox }) => join(sandbox, "first-login"));
    await until("the first login is there", () => files.some(existsSync));
    const password = readFileSync(files.find(existsSync) ?? "", "utf8").trim();
    const client = nodes.client({ patience: 5_000 });
    const examples = client.kind("/core/examples");
    await assert.rejects(examples.create({ name: "x" }), { status: 401, outcome: "notApplied" });
    await assert.rejects(client.login("admin", "wrong"), { status: 401 });
    await until("the wait after a wrong password is over", () =>
      client.login("admin", password).catch(() => false),
    );
    await examples.create({ name: "x" }, { name: "one" });
    const token = await client.login("admin", password, { expiresAfterSeconds: 600 });
    const other = new Client(nodes.addresses, { token });
    assert.equal((await other.kind("/core/examples").get("one")).documentVersion, 0);

    await client.registerImmortal("sum", { replicas: ["n1"] });
    const Sum = contract({ add: method(1, integer) });
    let seen = 0;
    const sum = program("sum", () => ({ sum: 0 })).handles(Sum, {
      add: (state, _, n) => void (seen = state.sum += n),
    });
    const node = nodes.node("n1").address;
    await assert.rejects(run(sum, { node }), { name: "RunError", kind: "REFUSED" });
    const impulses = new Impulses();
    const running = run(sum, { node, token, impulses });
    await other.impulse("sum", 1, [5]);
    await until("the program has heard it", () => seen === 5);
    impulses.stop();
    await running;

    await client.logout();
    const isTaken = () =>
      other
        .kind("/core/examples")
        .get("one")
        .then(
          () => false,
          ({ status }) => status === 401,
        );
    await until("the token is worthless", isTaken, 10_000);
    client.close();
    other.close();
  } finally {
    await nodes.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
