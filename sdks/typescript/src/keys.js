/**
 * Which writes take an `Idempotency-Key`: those that a node remembers. It refuses the others that
 * have one, as it would be ignored. The same rules as in `crates/client/src/keys.rs`.
 *
 * @module
 */

import { UTILITIES } from "./names.js";

/** Where nothing is a document. To ask for the same twice there is to have it once. */
const KEYLESS = [
  "/core/ambrosia",
  "/core/authn",
  "/core/authz/can-i",
  "/core/backups",
  "/core/immortals",
  "/core/management",
  "/core/node-groups",
  "/core/node-selectors",
  "/core/sql",
];

/** Passes on what is sent there, to where keys are taken. */
const FORWARDING = "/core/node-selectors/default/forwarding";

/** Each POST makes another secret, which is shown once. */
const SECRETS = ["/core/auth/join-tokens", "/core/auth/tokens"];

const QUERIES = ["/core/query-tasks", "/core/local-query-tasks"];

/**
 * @param {string} method
 * @param {string} pathAndQuery
 * @param {any} body
 */
export function takesKey(method, pathAndQuery, body) {
  if (!isWrite(method)) return false;
  const path = pathAndQuery.split("?")[0].replace(/\/+$/, "");
  // An instance may have the name `impulses`, and then it is not meant.
  if (/^\/core\/immortals\/[^/]+\/impulses$/.test(path)) return true;
  const isDirect = method === "POST" && body?.taskInfo?.isDirect === true;
  // A direct query is passed on as it is.
  if (path === FORWARDING) return !(isDirect && body.querySpec !== undefined);
  if (makesSecret(method, path)) return false;
  if (UTILITIES.some((name) => path.endsWith(`/${name}`))) return false;
  if (KEYLESS.some((of) => path === of || path.startsWith(`${of}/`))) return false;
  return !(isDirect && QUERIES.includes(path));
}

/**
 * @param {string} method
 * @param {string} path
 */
function makesSecret(method, path) {
  return method === "POST" && SECRETS.includes(path);
}

/**
 * Whether a request is done each time that it is sent: it is about the very node that is asked,
 * which stops or joins another cluster, and then the next node would, too; or it makes a secret.
 *
 * @param {string} method
 * @param {string} pathAndQuery
 */
export function isDoneEachTime(method, pathAndQuery) {
  const path = pathAndQuery.split("?")[0].replace(/\/+$/, "");
  return (
    path === "/core/management" ||
    makesSecret(method, path) ||
    (method === "POST" && path === "/core/node-groups/default")
  );
}

/** @param {string} method */
export function isWrite(method) {
  return method !== "GET" && method !== "HEAD" && method !== "OPTIONS";
}

/**
 * No two clients may have the same, or the one's write would be taken for a repetition of the
 * other's and never be done: so it comes from the system's random source.
 *
 * @param {Uint8Array} random 16 bytes
 */
export function prefixOf(random) {
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
