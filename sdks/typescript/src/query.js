/**
 * Queries: over documents of all kinds, by any field.
 *
 * @module
 */

/**
 * What a field must be: this value; or a text that begins so, or is like a pattern with `*` and
 * `?`; or a number in a range, both ends included.
 *
 * @typedef {string | number | bigint | boolean | {prefix: string} | {wildcard: string} | {min?: number | bigint, max?: number | bigint}} Term
 */

/**
 * The query that all these terms hold: `where({ documentKind: "app:seats", row: { prefix: "A" } })`.
 *
 * @param {Record<string, Term>} terms by the name of a field; inside of objects with dots
 */
export function where(terms) {
  const clauses = Object.entries(terms).map(([propertyName, term]) => ({
    occurance: "MUST_OCCUR",
    term: { propertyName, ...termOf(propertyName, term) },
  }));
  if (clauses.length === 0) throw new TypeError("where() needs at least one term");
  return { booleanClauses: clauses };
}

/**
 * @param {string} name
 * @param {Term} term
 */
function termOf(name, term) {
  if (typeof term !== "object") return { matchValue: String(term) };
  if ("prefix" in term) return { matchType: "PREFIX", matchValue: term.prefix };
  if ("wildcard" in term) return { matchType: "WILDCARD", matchValue: term.wildcard };
  const { min, max } = term;
  if (min === undefined && max === undefined) {
    throw new TypeError(`the term for '${name}' needs one of prefix, wildcard, min, max`);
  }
  const isWhole = [min, max].every(
    (end) => end === undefined || typeof end === "bigint" || Number.isInteger(end),
  );
  return {
    range: {
      type: isWhole ? "LONG" : "DOUBLE",
      min,
      max,
      isMinInclusive: true,
      isMaxInclusive: true,
    },
  };
}

/**
 * @typedef {object} QueryOptions
 * @property {{field: string, type?: "STRING" | "LONG" | "DOUBLE", descending?: boolean}} [sort]
 * @property {string[]} [options] further options of a query, such as `INCLUDE_ALL_VERSIONS`
 * @property {number} [page] so many in one answer of a node (500)
 * @property {AbortSignal} [signal]
 * @property {Iterable<string>} [bigints] fields whose whole numbers are always a `bigint`
 */

/**
 * The body of a direct query.
 *
 * @param {object} query as `where` makes it, or by hand
 * @param {QueryOptions} asked
 * @param {boolean} isCount
 */
export function bodyOf(query, { sort, options = [], page = 500 }, isCount) {
  const sorted = sort && {
    sortTerm: { propertyName: sort.field, propertyType: sort.type ?? "STRING" },
    sortOrder: sort.descending ? "DESC" : "ASC",
  };
  const all = [
    ...(isCount ? ["COUNT"] : ["EXPAND_CONTENT"]),
    ...(sort ? ["SORT"] : []),
    ...options,
  ];
  const limit = isCount ? {} : { resultLimit: page };
  return { taskInfo: { isDirect: true }, querySpec: { query, options: all, ...sorted, ...limit } };
}
