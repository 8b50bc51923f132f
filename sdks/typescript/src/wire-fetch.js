/**
 * The way to a node in a browser, by `fetch`. It cannot tell a connection that was never made from
 * one that broke, so each failure counts as broken: a write is repeated under its key only.
 *
 * @module
 */

import { WireError } from "./wire.js";

/** @param {number} count */
export function randomBytes(count) {
  return globalThis.crypto.getRandomValues(new Uint8Array(count));
}

/**
 * @param {import("./wire.js").WireOptions} options
 * @returns {import("./wire.js").Wire}
 */
export function makeWire(options) {
  if (options.ca !== undefined) {
    throw new TypeError("the option `ca` is for Node; a browser has authorities of its own");
  }
  return { ask, close: () => {} };
}

/**
 * @param {URL} address
 * @param {import("./wire.js").WireRequest} request
 * @returns {Promise<import("./wire.js").WireAnswer>}
 */
async function ask(address, request) {
  const { method, target, headers, body, signal } = request;
  request.onSent();
  try {
    const answer = await fetch(address.origin + target, {
      method,
      headers,
      body,
      signal,
      redirect: "error",
    });
    const text = await answer.text();
    return {
      status: answer.status,
      header: (name) => answer.headers.get(name) ?? undefined,
      body: text,
    };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new WireError("broken", error instanceof Error ? error.message : String(error));
  }
}
