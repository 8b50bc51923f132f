/**
 * The way to a node in Node.js: `node:http` and `node:https`, which say whether a connection was
 * made at all and keep it for the next request.
 *
 * @module
 */

import { randomBytes as nodeRandomBytes } from "node:crypto";
import http from "node:http";
import https from "node:https";

import { ANSWER_BYTES_MAX, CONNECT_MILLIS_MAX, WireError } from "./wire.js";

/** Connections that are kept for each node while nothing goes over them. */
const IDLE_MAX = 64;

/** A node closes a connection after 90 s without a request; this is well before. */
const IDLE_MILLIS_MAX = 60_000;

/** @param {number} count */
export function randomBytes(count) {
  return new Uint8Array(nodeRandomBytes(count));
}

/**
 * @param {import("./wire.js").WireOptions} options
 * @returns {import("./wire.js").Wire}
 */
export function makeWire(options) {
  const plain = new http.Agent({ keepAlive: true, maxFreeSockets: IDLE_MAX });
  const secure = new https.Agent({ keepAlive: true, maxFreeSockets: IDLE_MAX, ca: options.ca });
  for (const agent of [plain, secure]) {
    agent.on("free", (socket) => socket.setTimeout(IDLE_MILLIS_MAX));
  }
  return {
    ask: (address, request) =>
      ask(address.protocol === "https:" ? secure : plain, address, request),
    close: () => {
      plain.destroy();
      secure.destroy();
    },
  };
}

/**
 * @param {http.Agent | https.Agent} agent
 * @param {URL} address
 * @param {import("./wire.js").WireRequest} request
 * @returns {Promise<import("./wire.js").WireAnswer>}
 */
function ask(agent, address, request) {
  return new Promise((resolve, reject) => {
    const { method, target, body, signal } = request;
    const bytes = body === undefined ? undefined : Buffer.from(body);
    const length = bytes === undefined ? {} : { "content-length": String(bytes.length) };
    const make = address.protocol === "https:" ? https.request : http.request;
    const sent = make({
      agent,
      host: address.hostname.replace(/^\[|\]$/g, ""),
      port: address.port || (address.protocol === "https:" ? 443 : 80),
      method,
      path: target,
      headers: { ...request.headers, ...length },
      signal,
    });
    let connected = false;
    const isConnected = () => {
      connected = true;
      request.onSent();
    };
    /** @param {Error & {code?: string}} error */
    const failed = (error) => {
      if (signal.aborted) return reject(signal.reason);
      reject(new WireError(connected ? "broken" : "notSent", error.message || String(error.code)));
    };
    sent.on("socket", (socket) => {
      if (!socket.connecting) return isConnected();
      const late = setTimeout(() => {
        sent.destroy(new Error(`no connection within ${CONNECT_MILLIS_MAX} ms`));
      }, CONNECT_MILLIS_MAX);
      const event = address.protocol === "https:" ? "secureConnect" : "connect";
      socket.once(event, () => {
        isConnected();
        clearTimeout(late);
        // An answer may take as long as the caller lets it.
        socket.setTimeout(0);
      });
      socket.once("close", () => clearTimeout(late));
    });
    sent.on("error", failed);
    sent.on("response", (answer) => collect(answer, resolve, failed));
    sent.end(bytes);
  });
}

/**
 * @param {http.IncomingMessage} answer
 * @param {(answer: import("./wire.js").WireAnswer) => void} resolve
 * @param {(error: Error) => void} failed
 */
function collect(answer, resolve, failed) {
  /** @type {Buffer[]} */
  const chunks = [];
  let bytes = 0;
  answer.on("data", (chunk) => {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) {
      answer.destroy(new Error(`an answer is longer than ${ANSWER_BYTES_MAX} bytes`));
      return;
    }
    chunks.push(chunk);
  });
  answer.on("error", failed);
  answer.on("end", () => {
    const header = (/** @type {string} */ name) => {
      const found = answer.headers[name];
      return Array.isArray(found) ? found[0] : found;
    };
    resolve({
      status: answer.statusCode ?? 0,
      header,
      body: Buffer.concat(chunks).toString("utf8"),
    });
  });
}
