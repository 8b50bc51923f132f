/**
 * @param {string} link of a factory, a document or an instance
 * @returns {string} the same
 */
export function checkedLink(link: string): string;
/**
 * @param {string} link of a document
 * @returns {string} the same
 */
export function checkedDocument(link: string): string;
/**
 * @param {string} name of a document or an instance: one part of a link
 * @returns {string} the same
 */
export function checkedName(name: string): string;
/**
 * Names of documents and of instances, before they become a part of a path. A name that would lead
 * elsewhere (to a utility, to a query, to another document) is refused, as a node would refuse it.
 *
 * @module
 */
/** The ends of a path that name a utility of a service: no document has such a name. */
export const UTILITIES: string[];
