/** @param {number} count */
export function randomBytes(count: number): Uint8Array<ArrayBuffer>;
/**
 * @param {import("./wire.js").WireOptions} options
 * @returns {import("./wire.js").Wire}
 */
export function makeWire(options: import("./wire.js").WireOptions): import("./wire.js").Wire;
