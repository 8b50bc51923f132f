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
export function where(terms: Record<string, Term>): {
    booleanClauses: {
        occurance: string;
        term: {
            matchValue: string;
            matchType?: undefined;
            range?: undefined;
            propertyName: string;
        } | {
            matchType: string;
            matchValue: string;
            range?: undefined;
            propertyName: string;
        } | {
            range: {
                type: string;
                min: number | bigint | undefined;
                max: number | bigint | undefined;
                isMinInclusive: boolean;
                isMaxInclusive: boolean;
            };
            matchValue?: undefined;
            matchType?: undefined;
            propertyName: string;
        };
    }[];
};
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
export function bodyOf(query: object, { sort, options, page }: QueryOptions, isCount: boolean): {
    taskInfo: {
        isDirect: boolean;
    };
    querySpec: {
        resultLimit?: undefined;
        sortTerm?: {
            propertyName: string;
            propertyType: "LONG" | "DOUBLE" | "STRING";
        } | undefined;
        sortOrder?: string | undefined;
        query: object;
        options: string[];
    } | {
        resultLimit: number;
        sortTerm?: {
            propertyName: string;
            propertyType: "LONG" | "DOUBLE" | "STRING";
        } | undefined;
        sortOrder?: string | undefined;
        query: object;
        options: string[];
    };
};
/**
 * What a field must be: this value; or a text that begins so, or is like a pattern with `*` and
 * `?`; or a number in a range, both ends included.
 */
export type Term = string | number | bigint | boolean | {
    prefix: string;
} | {
    wildcard: string;
} | {
    min?: number | bigint;
    max?: number | bigint;
};
export type QueryOptions = {
    sort?: {
        field: string;
        type?: "STRING" | "LONG" | "DOUBLE";
        descending?: boolean;
    } | undefined;
    /**
     * further options of a query, such as `INCLUDE_ALL_VERSIONS`
     */
    options?: string[] | undefined;
    /**
     * so many in one answer of a node (500)
     */
    page?: number | undefined;
    signal?: AbortSignal | undefined;
    /**
     * fields whose whole numbers are always a `bigint`
     */
    bigints?: Iterable<string> | undefined;
};
