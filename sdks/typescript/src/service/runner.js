/**
 * Keeps a program of a service connected: one connection after the other, until it is stopped.
 *
 * @module
 */

import { Client } from "../client.js";
import { AmritaError } from "../errors.js";
import { readFileSync } from "node:fs";
import { Dial, LostError, SaidError, doorOfKind } from "../immortal/dial.js";
import { GarbledError } from "../immortal/bytes.js";
import { Splitter, leave, pong, serve } from "./frames.js";

/** Where a node is looked for when none is named: where `amrita` looks, too. */
const NODES_DEFAULT = [8001, 8002, 8003, 8000].map((port) => `http://127.0.0.1:${port}`);

/** The pause before a connection is made again; doubled with each further time. */
const PAUSE_MILLIS_MIN = 10;
const PAUSE_MILLIS_MAX = 1_000;

/** What a node says that does not know the kind: it may be defined in a moment. */
const UNDEFINED_MILLIS_MAX = 30_000;

/** So long a program that leaves waits for its handlers. */
const LEAVE_MILLIS_MAX = 10_000;

/** Calls may be on their way here when a program leaves: the connection stays for a moment. */
const LINGER_MILLIS = 100;

/** What a node says when it lets a program go that may come again. */
const PASSING = ["STOPPING", "RELOAD", "BUSY", "SILENT", "LATE"];

/**
 * @typedef {object} RunOptions
 * @property {string | string[]} [node] the node beside which the program runs: `http://host:port`,
 *   `https://host:port`, its sandbox, or the socket in it; of several the first is taken that is there
 * @property {string} [token] where logins are demanded, for addresses with TLS; without it
 *   `AMRITA_TOKEN` in the environment
 * @property {string} [ca] certificates in PEM of who has signed those of the nodes; without it the file
 *   that `AMRITA_CA_FILE` names
 * @property {AbortSignal} [signal] stops the program: it takes no more calls, and answers those that it has
 */

/** Why a program does not go on: `code` is the node's. */
export class ServiceError extends Error {
  /**
   * @param {string} message
   * @param {string} code
   */
  constructor(message, code) {
    super(message);
    this.name = "ServiceError";
    this.code = code;
  }
}

/** @typedef {import("./service.js").Service<any>} Service */

/**
 * @param {Service} service
 * @param {RunOptions} [options]
 * @returns {Promise<void>}
 * @throws {ServiceError} when it cannot go on
 */
export async function run(service, { node = NODES_DEFAULT, token, ca, signal } = {}) {
  const dial = new Dial(node, { token, ca });
  const door = doorOfKind(service.link);
  let [pause, since, told] = [PAUSE_MILLIS_MIN, Date.now(), ""];
  while (!signal?.aborted) {
    const { ended, wasWelcome } = await connection(service, dial, door, signal);
    if (signal?.aborted) return;
    if (wasWelcome) [pause, since, told] = [PAUSE_MILLIS_MIN, Date.now(), ""];
    if (ended instanceof SaidError) {
      dial.turnToTheNext();
      checkPassing(ended, Date.now() - since);
    }
    if (told !== ended.message) {
      told = ended.message;
      tell(`${told}; trying again`);
    }
    await sleep(pause, signal);
    pause = Math.min(pause * 2, PAUSE_MILLIS_MAX);
  }
}

/**
 * @param {Service} service
 */
export async function main(service) {
  const stop = new AbortController();
  for (const name of /** @type {const} */ (["SIGTERM", "SIGINT"]))
    process.once(name, () => stop.abort());
  let code = 0;
  try {
    const node = named(process.argv.slice(2));
    await define(service, node);
    await run(service, { node, signal: stop.signal });
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    code = 1;
  }
  // A handler that hangs would keep it from its end.
  process.exit(code);
}

/**
 * Defines the kind if the node is named by an address.
 *
 * @param {Service} service
 * @param {string} node
 */
async function define(service, node) {
  const addresses = node.split(",").filter((one) => one.includes("://"));
  if (addresses.length === 0) return;
  const { AMRITA_TOKEN, AMRITA_CA_FILE } = process.env;
  const isSecret = addresses.every((one) => one.trim().startsWith("https:"));
  const ca = isSecret && AMRITA_CA_FILE ? readFileSync(AMRITA_CA_FILE, "utf8") : undefined;
  const token = isSecret ? AMRITA_TOKEN?.trim() || undefined : undefined;
  const client = new Client(addresses, { token, ca });
  try {
    await service.define(client);
  } catch (error) {
    if (!(error instanceof AmritaError) || error.code !== "OLDER_DEFINITION") throw error;
    // As while it is replaced. What it has is asked of it all the same.
    tell(`${error.message}. This copy (version '${service.version}') serves as it is`);
  } finally {
    client.close();
  }
}

/** @param {string[]} words */
function named(words) {
  let node = NODES_DEFAULT.join();
  for (let at = 0; at < words.length; at += 1) {
    const [name, inline] = words[at].split(/=(.*)/s, 2);
    if (name !== "--node") throw new TypeError(`${name} is unknown. There is --node URL-OR-SOCKET`);
    const value = inline ?? words[(at += 1)];
    if (value === undefined) throw new TypeError(`${name} needs a value`);
    node = value;
  }
  return node;
}

/**
 * One connection, from SERVE to its end.
 *
 * @param {Service} service
 * @param {Dial} dial
 * @param {import("../immortal/dial.js").Door} door
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<{ended: Error, wasWelcome: boolean}>}
 */
async function connection(service, dial, door, signal) {
  /** @type {import("../immortal/dial.js").Connected} */
  let connected;
  try {
    connected = await dial.connect(door);
  } catch (error) {
    if (error instanceof LostError || error instanceof SaidError)
      return { ended: error, wasWelcome: false };
    throw error;
  }
  const { socket, head } = connected;
  // It was told to end while it was on its way here.
  if (signal?.aborted) {
    socket.destroy();
    return { ended: new LostError("it is to end"), wasWelcome: false };
  }
  return new Promise((resolve) => {
    const splitter = new Splitter();
    let [wasWelcome, open, isLeaving] = [false, 0, false];
    const end = (/** @type {Error} */ ended) => {
      signal?.removeEventListener("abort", stop);
      socket.destroy();
      resolve({ ended, wasWelcome });
    };
    const endIfIdle = () => {
      if (isLeaving && open === 0) socket.end(() => socket.destroy());
    };
    const stop = () => {
      socket.write(leave());
      setTimeout(() => {
        isLeaving = true;
        endIfIdle();
      }, LINGER_MILLIS);
      setTimeout(() => socket.destroy(), LEAVE_MILLIS_MAX).unref();
    };
    const said = (/** @type {import("./frames.js").FromNode} */ frame) => {
      if (frame.type === "PING") socket.write(pong(frame.number));
      else if (frame.type === "ERROR") end(new SaidError(frame.code, frame.text));
      else if (frame.type === "WELCOME") {
        // Calls have up to three states.
        splitter.frameBytesMax = Math.max(splitter.frameBytesMax, 3 * frame.frameBytesMax);
        wasWelcome = true;
        tell(`serving ${service.link} at node ${frame.node}`);
      } else {
        open += 1;
        service.answer(frame).then((answer) => {
          open -= 1;
          if (socket.writable) socket.write(answer);
          endIfIdle();
        });
      }
    };
    const read = (/** @type {Buffer} */ bytes) => {
      try {
        splitter.add(bytes);
        for (let next = splitter.next(); next !== undefined; next = splitter.next()) said(next);
      } catch (error) {
        if (!(error instanceof GarbledError)) throw error;
        end(new LostError(`the node sent garbage: ${error.message}`));
      }
    };
    socket.on("data", (bytes) => read(/** @type {Buffer} */ (bytes)));
    socket.on("error", (error) => end(new LostError(`the connection broke: ${error.message}`)));
    socket.on("close", () => end(new LostError("the node has closed the connection")));
    signal?.addEventListener("abort", stop, { once: true });
    const { link, version, callsMax, handlers, actions } = service;
    socket.write(serve({ link, version, callsMax, handlers, actions }));
    if (head.length > 0) read(head);
  });
}

/**
 * @param {SaidError} ended
 * @param {number} waited
 */
function checkPassing({ code, text }, waited) {
  const mayPass = ["UNKNOWN_KIND", "NO_HANDLERS"].includes(code) && waited < UNDEFINED_MILLIS_MAX;
  if (!PASSING.includes(code) && !mayPass)
    throw new ServiceError(`the node refuses: ${code}: ${text}`, code);
}

/**
 * @param {number} millis
 * @param {AbortSignal | undefined} signal
 */
function sleep(millis, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, millis);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** A line on standard error. @param {string} line */
function tell(line) {
  console.error(line);
}
