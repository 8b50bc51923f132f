/**
 * @param {string} method
 * @param {string} pathAndQuery
 * @param {any} body
 */
export function takesKey(method: string, pathAndQuery: string, body: any): boolean;
/**
 * Whether a request is done each time that it is sent: it is about the very node that is asked,
 * which stops or joins another cluster, and then the next node would, too; or it makes a secret.
 *
 * @param {string} method
 * @param {string} pathAndQuery
 */
export function isDoneEachTime(method: string, pathAndQuery: string): boolean;
/** @param {string} method */
export function isWrite(method: string): boolean;
/**
 * No two clients may have the same, or the one's write would be taken for a repetition of the
 * other's and never be done: so it comes from the system's random source.
 *
 * @param {Uint8Array} random 16 bytes
 */
export function prefixOf(random: Uint8Array): string;
