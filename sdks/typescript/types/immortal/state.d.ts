/**
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} with the place of what cannot be kept
 */
export function save(value: unknown): string;
/**
 * @param {string} text
 * @returns {any}
 */
export function load(text: string): any;
