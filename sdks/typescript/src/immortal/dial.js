/**
 * How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade on its
 * port.
 *
 * @module
 */

import { existsSync, readFileSync, statSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { connect as connectSocket } from "node:net";
import { join } from "node:path";

import { parse } from "../json.js";
import { checkedName } from "../names.js";

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

/**
 * Where a program asks for an upgrade, and for which protocol.
 *
 * @typedef {{path: string, protocol: string}} Door
 */

/**
 * @param {string} instance
 * @returns {Door}
 */
export function doorOfInstance(instance) {
  const name = encodeURIComponent(checkedName(instance));
  return { path: `/core/immortals/${name}/attach`, protocol: "amrita-immortal" };
}

/**
 * @param {string} factory
 * @returns {Door}
 */
export function doorOfKind(factory) {
  const name = factory.replace(/^\/+|\/+$/g, "").split("/").map(encodeURIComponent).join(":");
  return { path: `/core/factories/${name}/attach`, protocol: "amrita-service" };
}

/**
 * What is shown to nodes with TLS, and who has signed their certificates. Without these the environment
 * says so: `AMRITA_TOKEN`, and the file that `AMRITA_CA_FILE` names.
 *
 * @typedef {{token?: string, ca?: string}} Trust `ca`: certificates in PEM
 */

/** The nodes that a program may attach to. */
export class Dial {
  #first = 0;
  #token;
  #tokenWithTls;
  #ca;

  /**
   * @param {string | string[]} nodes each `http://host:port`, `https://host:port`, a socket, or the
   *   sandbox that has it; of several the first is taken that is there
   * @param {Trust} [trust]
   */
  constructor(nodes, trust = {}) {
    const list = Array.isArray(nodes) ? nodes : nodes.split(",");
    this.places = list.map((place) => placeOf(place.trim()));
    if (this.places.length === 0)
      throw new TypeError("a node is needed: its address, its sandbox or its socket");
    const { AMRITA_TOKEN, AMRITA_CA_FILE } = process.env;
    this.#token = trust.token;
    // In the environment a token may stand for other nodes: it is shown over TLS only.
    this.#tokenWithTls = trust.token ?? (AMRITA_TOKEN?.trim() || undefined);
    const isRead = trust.ca === undefined && AMRITA_CA_FILE && this.places.some(isSecret);
    this.#ca = isRead ? readFileSync(AMRITA_CA_FILE, "utf8") : trust.ca;
  }

  /**
   * @param {Door} door
   * @returns {Promise<Connected>}
   */
  async connect(door) {
    const reasons = [];
    for (let n = 0; n < this.places.length; n += 1) {
      const which = (this.#first + n) % this.places.length;
      try {
        const connected = await this.#reach(this.places[which], door);
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

  /**
   * @param {URL | string} place
   * @param {Door} door
   */
  #reach(place, door) {
    if (typeof place === "string") return reachSocket(place);
    const token = isSecret(place) ? this.#tokenWithTls : this.#token;
    return upgrade(place, door, { token, ca: this.#ca });
  }

  /** The node that was reached does not take the program: another one is tried first. */
  turnToTheNext() {
    this.#first = (this.#first + 1) % this.places.length;
  }
}

/** @param {URL | string} place */
function isSecret(place) {
  return typeof place !== "string" && place.protocol === "https:";
}

/**
 * @param {string} place
 * @returns {URL | string}
 */
function placeOf(place) {
  if (place.includes("://")) {
    const address = new URL(place);
    if (!["http:", "https:"].includes(address.protocol))
      throw new TypeError(`'${place}' is no address of a node`);
    return address;
  }
  const isHostAndPort = /^[^/]+:[0-9]{1,5}$/.test(place);
  return isHostAndPort && !existsSync(place) ? new URL(`http://${place}`) : place;
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
 * @param {Door} door
 * @param {Trust} trust
 * @returns {Promise<Connected>}
 */
function upgrade(address, { path, protocol }, { token, ca }) {
  return new Promise((resolve, reject) => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const wanted = {
      agent: false,
      host: address.hostname.replace(/^\[|\]$/g, ""),
      path,
      headers: { connection: "Upgrade", upgrade: protocol, ...authorization },
      timeout: CONNECT_MILLIS_MAX,
    };
    const request = isSecret(address)
      ? https.request({ ...wanted, port: address.port || 443, ca })
      : http.request({ ...wanted, port: address.port || 80 });
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
  return new LostError(`the answer is ${status} and not 101: is it a node of Amrita?`);
}
