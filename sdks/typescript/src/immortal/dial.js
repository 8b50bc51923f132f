/**
 * How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade on its
 * port.
 *
 * @module
 */

import { existsSync, statSync } from "node:fs";
import http from "node:http";
import { connect as connectSocket } from "node:net";
import { join } from "node:path";

import { parse } from "../json.js";

/** The name of the socket in a node's sandbox. */
const SOCKET_NAME = "immortals.sock";

/** So long a node may take to be reached and to answer an upgrade; then it is tried again. */
const CONNECT_MILLIS_MAX = 5_000;

/** Of a refusal. */
const BODY_BYTES_MAX = 64 << 10;

/** The connection broke, or was not made. */
export class LostError extends Error {}

/** The node does not take the program, and says why. */
export class SaidError extends Error {
  /**
   * @param {string} code
   * @param {string} text
   */
  constructor(code, text) {
    super(`${code}: ${text}`);
    this.code = code;
    this.text = text;
  }
}

/** @typedef {{socket: import("node:net").Socket, head: Buffer}} Connected */

/** The nodes that a program may attach to. */
export class Dial {
  #first = 0;
  #token;

  /**
   * @param {string | string[]} nodes each `http://host:port`, a socket, or the sandbox that has it;
   *   of several the first is taken that is there
   * @param {string} [token]
   */
  constructor(nodes, token) {
    const list = Array.isArray(nodes) ? nodes : nodes.split(",");
    this.places = list.map((place) => placeOf(place.trim()));
    this.#token = token;
    if (this.places.length === 0)
      throw new TypeError("a node is needed: its address, its sandbox or its socket");
  }

  /**
   * @param {string} instance
   * @returns {Promise<Connected>}
   */
  async connect(instance) {
    const reasons = [];
    for (let n = 0; n < this.places.length; n += 1) {
      const which = (this.#first + n) % this.places.length;
      try {
        const connected = await reach(this.places[which], instance, this.#token);
        this.#first = which;
        return connected;
      } catch (error) {
        if (!(error instanceof LostError)) {
          this.#first = which;
          throw error;
        }
        reasons.push(error.message);
      }
    }
    throw new LostError(reasons.join("; "));
  }

  /** The node that was reached does not take the program: another one is tried first. */
  turnToTheNext() {
    this.#first = (this.#first + 1) % this.places.length;
  }
}

/**
 * @param {string} place
 * @returns {URL | string}
 */
function placeOf(place) {
  if (place.startsWith("https://")) {
    throw new TypeError(
      `${place} asks for TLS, in which programs do not attach: attach to the node on this machine by its socket`,
    );
  }
  if (place.includes("://")) {
    const address = new URL(place);
    if (address.protocol !== "http:") throw new TypeError(`'${place}' is no address of a node`);
    return address;
  }
  const isHostAndPort = /^[^/]+:[0-9]{1,5}$/.test(place);
  return isHostAndPort && !existsSync(place) ? new URL(`http://${place}`) : place;
}

/**
 * @param {URL | string} place
 * @param {string} instance
 * @param {string | undefined} token
 * @returns {Promise<Connected>}
 */
function reach(place, instance, token) {
  return typeof place === "string" ? reachSocket(place) : upgrade(place, instance, token);
}

/**
 * @param {string} path
 * @returns {Promise<Connected>}
 */
function reachSocket(path) {
  const isFolder = existsSync(path) && statSync(path).isDirectory();
  const socketPath = isFolder ? join(path, SOCKET_NAME) : path;
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ path: socketPath });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve({ socket, head: Buffer.alloc(0) });
    });
    socket.once("error", (error) => {
      const hint =
        isFolder || existsSync(path)
          ? "is the node running?"
          : "a node is named by its sandbox, or by its address, which begins with http://";
      reject(new LostError(`cannot reach ${socketPath}: ${error.message}; ${hint}`));
    });
  });
}

/**
 * @param {URL} address
 * @param {string} instance
 * @param {string | undefined} token
 * @returns {Promise<Connected>}
 */
function upgrade(address, instance, token) {
  return new Promise((resolve, reject) => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const request = http.request({
      agent: false,
      host: address.hostname.replace(/^\[|\]$/g, ""),
      port: address.port || 80,
      path: `/core/immortals/${encodeURIComponent(instance)}/attach`,
      headers: { connection: "Upgrade", upgrade: "amrita-immortal", ...authorization },
      timeout: CONNECT_MILLIS_MAX,
    });
    request.once("timeout", () =>
      request.destroy(new Error(`no answer within ${CONNECT_MILLIS_MAX} ms`)),
    );
    request.once("error", (error) =>
      reject(new LostError(`cannot reach ${address.origin}: ${error.message}`)),
    );
    request.once("upgrade", (_, socket, head) => {
      const plain = /** @type {import("node:net").Socket} */ (socket);
      plain.setTimeout(0);
      plain.setNoDelay(true);
      resolve({ socket: plain, head });
    });
    request.once("response", (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (chunk) => {
        text += chunk;
        if (text.length > BODY_BYTES_MAX) answer.destroy();
      });
      answer.on("close", () => reject(refusal(answer.statusCode ?? 0, text)));
    });
    request.end();
  });
}

/**
 * A node's problems have a code and a message; whatever else answers has a status.
 *
 * @param {number} status
 * @param {string} text
 */
function refusal(status, text) {
  try {
    const { code, message } = parse(text);
    if (typeof code === "string" && typeof message === "string")
      return new SaidError(code, message);
  } catch {
    // It is no node that speaks.
  }
  return new LostError(`the answer is ${status} and not 101: is it a node with immortals?`);
}
