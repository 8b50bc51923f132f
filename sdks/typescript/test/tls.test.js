// How a program reaches a node over TLS: whom it believes, and what it shows to whom.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Dial, LostError, SaidError, doorOfInstance, doorOfKind } from "../src/immortal/dial.js";

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
const skip = hasOpenssl ? false : "openssl makes the certificates, and is not there";
const folder = mkdtempSync(join(tmpdir(), "amrita-tls-"));
const file = (/** @type {string} */ name) => join(folder, `${name}.pem`);
const pem = (/** @type {string} */ name) => readFileSync(file(name), "utf8");

/** @param {string} name @param {string[]} more */
function certificate(name, ...more) {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const files = ["-keyout", file(`${name}-key`), "-out", file(name), "-subj", `/CN=${name}`];
  const made = spawnSync("openssl", ["req", "-x509", ...key, ...files, ...more]);
  assert.equal(made.status, 0, String(made.stderr));
}

/**
 * What answers as a node does to a token, and sends back all that it hears.
 *
 * @param {http.Server} server
 */
async function node(server) {
  /** @type {Array<[string | undefined, string | undefined]>} */
  const asked = [];
  server.on("upgrade", (request, socket) => {
    const { authorization } = request.headers;
    asked.push([request.url, authorization]);
    socket.on("error", () => {});
    if (authorization !== undefined && authorization !== "Bearer right") {
      const body = JSON.stringify({ code: "UNAUTHORIZED", message: "who is it?" });
      const head = `HTTP/1.1 401 X\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`;
      socket.end(head + body);
      return;
    }
    socket.write("HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: amrita\r\n\r\n");
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { asked, port };
}

/** @type {https.Server} */
let server;
/** @type {Awaited<ReturnType<typeof node>>} */
let secret;

before(async () => {
  if (skip) return;
  certificate("ca");
  certificate("other");
  const signed = ["-CA", file("ca"), "-CAkey", file("ca-key")];
  certificate("n1", "-addext", "subjectAltName=IP:127.0.0.1", ...signed);
  server = https.createServer({ key: pem("n1-key"), cert: pem("n1") });
  secret = await node(server);
});

after(() => {
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

test("what is sent over TLS comes back whole", { skip }, async () => {
  const dial = new Dial(`https://127.0.0.1:${secret.port}`, { token: "right", ca: pem("ca") });
  const { socket } = await dial.connect(doorOfInstance("bank"));
  const sent = Buffer.alloc(3 << 20, "0123456789");
  const back = new Promise((resolve) => {
    /** @type {Buffer[]} */
    const pieces = [];
    let length = 0;
    socket.on("data", (piece) => {
      pieces.push(piece);
      length += piece.length;
      if (length >= sent.length) resolve(Buffer.concat(pieces));
    });
  });
  socket.write(sent);
  assert.ok(sent.equals(/** @type {Buffer} */ (await back)));
  socket.destroy();
  assert.deepEqual(secret.asked.at(-1), ["/core/immortals/bank/attach", "Bearer right"]);
});

test("only the named authority is believed, and a node's word is heard", { skip }, async () => {
  const address = `https://127.0.0.1:${secret.port}`;
  const before = secret.asked.length;
  for (const ca of [pem("other"), undefined]) {
    const careless = new Dial(address, { token: "right", ca });
    await assert.rejects(careless.connect(doorOfInstance("bank")), (error) => {
      assert.ok(error instanceof LostError, String(error));
      return /certificate|self.signed/.test(error.message);
    });
  }
  assert.equal(secret.asked.length, before, "nothing was shown to it");
  const wrong = new Dial(address, { token: "made-up", ca: pem("ca") });
  await assert.rejects(wrong.connect(doorOfInstance("bank")), (error) => {
    assert.ok(error instanceof SaidError, String(error));
    return error.code === "UNAUTHORIZED" && !error.message.includes("made-up");
  });
});

test("the token of the environment is shown over TLS only", { skip }, async () => {
  const plain = http.createServer();
  const open = await node(plain);
  Object.assign(process.env, { AMRITA_TOKEN: " right ", AMRITA_CA_FILE: file("ca") });
  try {
    const places = [`http://127.0.0.1:${open.port}`, `https://127.0.0.1:${secret.port}`];
    const dial = new Dial(places);
    for (const known of [open, secret]) {
      const { socket } = await dial.connect(doorOfKind("/app/deep/seats"));
      socket.destroy();
      const shown = known === secret ? "Bearer right" : undefined;
      assert.deepEqual(known.asked.at(-1), ["/core/factories/app:deep:seats/attach", shown]);
      dial.turnToTheNext();
    }
  } finally {
    delete process.env.AMRITA_TOKEN;
    delete process.env.AMRITA_CA_FILE;
    plain.close();
  }
});
