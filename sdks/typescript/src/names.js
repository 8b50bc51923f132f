/**
 * Names of documents and of instances, before they become a part of a path. A name that would lead
 * elsewhere (to a utility, to a query, to another document) is refused, as a node would refuse it.
 *
 * @module
 */

/** The ends of a path that name a utility of a service: no document has such a name. */
export const UTILITIES = ["stats", "config", "template", "available", "explain", "subscriptions", "ui"];

/** What a link must not have in it. */
const WRONG = /[\p{White_Space}\p{Cc}?#%\\"<>]/u;

/**
 * @param {string} link of a factory, a document or an instance
 * @returns {string} the same
 */
export function checkedLink(link) {
  if (!link.startsWith("/")) throw new TypeError(`a link begins with '/', and '${link}' does not`);
  for (const part of link.slice(1).split("/")) checkedPart(part, link);
  return link;
}

/**
 * @param {string} link of a document
 * @returns {string} the same
 */
export function checkedDocument(link) {
  const name = checkedLink(link).slice(link.lastIndexOf("/") + 1);
  if (UTILITIES.includes(name)) {
    throw new TypeError(
      `no document can have the name '${name}': ${link} is a utility of the service. Ask for it with request()`,
    );
  }
  return link;
}

/**
 * @param {string} name of a document or an instance: one part of a link
 * @returns {string} the same
 */
export function checkedName(name) {
  if (name.includes("/")) throw new TypeError(`the name '${name}' must not have a '/' in it`);
  return checkedPart(name, name);
}

/**
 * @param {string} part
 * @param {string} whole
 */
function checkedPart(part, whole) {
  if (part === "" || part === "." || part === "..")
    throw new TypeError(`'${whole}' has an empty, '.' or '..' part: a name is needed there`);
  if (WRONG.test(part)) {
    throw new TypeError(
      `'${whole}' has a blank, a control character or one of ? # % \\ " < >: names are without these`,
    );
  }
  return part;
}
