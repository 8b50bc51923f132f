/**
 * @param {string} method
 * @param {string} pathAndQuery
 * @param {any} body
 */
export function takesKey(method: string, pathAndQuery: string, body: any): boolean;
/**
 * Whether a request is about the very node that is asked: that it stops, or joins another cluster.
 * Sent once more, another node would do it, too.
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
