// What can be completed while somebody types a filter: fields, comparisons, and how clauses join.

export interface FieldOf {
  name: string;
  type: string;
  about: string;
}

/** Fields that every document has. */
export const BUILT_IN: FieldOf[] = [
  ["documentSelfLink", "STRING", "the link"],
  ["documentVersion", "LONG", "counted from 0"],
  ["documentUpdateTimeMicros", "LONG", "microseconds since 1970"],
  ["documentUpdateAction", "STRING", "POST, PUT, PATCH"],
  ["documentKind", "STRING", "the kind"],
  ["documentUpdateNode", "STRING", "the node that wrote the version"],
  ["documentExpirationTimeMicros", "LONG", "when it goes by itself"],
  ["documentAuthPrincipalLink", "STRING", "who wrote the version"],
].map(([name, type, about]) => ({ name, type, about }));

export const TASK_FIELDS: FieldOf[] = [
  { name: "taskInfo.stage", type: "STRING", about: "CREATED, STARTED, FINISHED, FAILED, CANCELLED" },
];

export function fieldsOf(template: any): FieldOf[] {
  const described = template?.documentDescription?.propertyDescriptions ?? {};
  const own = Object.entries<any>(described).map(([name, field]) => ({
    name,
    type: String(field.typeName ?? ""),
    about: String(field.propertyDocumentation ?? ""),
  }));
  return [...own, ...("taskInfo" in described ? TASK_FIELDS : []), ...BUILT_IN];
}

export const isTask = (template: any): boolean =>
  template?.documentDescription?.propertyDescriptions?.taskInfo !== undefined;

const COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "any", "all"];
const ABOUT: Record<string, string> = {
  eq: "equal; * in a text stands for anything",
  ne: "not equal",
  lt: "less than",
  le: "at most",
  gt: "greater than",
  ge: "at least",
  any: "a list has any of 'a;b'",
  all: "a list has all of 'a;b'",
  and: "both",
  or: "one of them",
};

export interface Choice {
  /** What replaces the text from `from` to the cursor. */
  text: string;
  about: string;
}

/** What may come at the cursor, and where the word begins that it would replace. */
export function completions(
  text: string,
  cursor: number,
  fields: FieldOf[],
): { from: number; choices: Choice[] } {
  const before = text.slice(0, cursor);
  const words = wordsOf(before);
  const isInWord = words.length > 0 && words[words.length - 1].end === before.length;
  const word = isInWord ? words[words.length - 1] : null;
  const from = word?.start ?? cursor;
  const typed = (word?.text ?? "").toLowerCase();
  if (typed.startsWith("'")) return { from, choices: [] };
  const done = isInWord ? words.slice(0, -1) : words;
  // Since the last word that joins two clauses.
  const lastJoin = done.findLastIndex((it) => ["and", "or", "not"].includes(it.text));
  const place = done.length - 1 - lastJoin;
  const field = fields.find((it) => it.name === done[lastJoin + 1]?.text);
  const all: Choice[] =
    place === 0
      ? fields.map((it) => ({ text: it.name, about: `${it.type.toLowerCase()} ${it.about}` }))
      : place === 1
        ? COMPARISONS.map((it) => ({ text: it, about: ABOUT[it] }))
        : place === 2
          ? valuesOf(field)
          : ["and", "or"].map((it) => ({ text: it, about: ABOUT[it] }));
  const begins = all.filter((it) => it.text.toLowerCase().startsWith(typed));
  const within = all.filter((it) => it.text.toLowerCase().indexOf(typed, 1) > 0);
  const choices = [...begins, ...within].filter((it) => it.text.toLowerCase() !== typed);
  return { from, choices: choices.slice(0, 12) };
}

function valuesOf(field: FieldOf | undefined): Choice[] {
  if (field?.type === "BOOLEAN") return ["true", "false"].map((text) => ({ text, about: "" }));
  if (field?.name === "taskInfo.stage") {
    const stages = ["CREATED", "STARTED", "FINISHED", "FAILED", "CANCELLED"];
    return stages.map((it) => ({ text: `'${it}'`, about: "" }));
  }
  const isNumber = ["LONG", "DOUBLE", "INTEGER"].includes(field?.type ?? "");
  return isNumber ? [] : [{ text: "''", about: "a text" }];
}

/** Words, texts in quotes among them, each with its place. */
function wordsOf(text: string): { text: string; start: number; end: number }[] {
  return [...text.matchAll(/'(?:[^']|'')*'?|[^\s()']+/g)].map((found) => ({
    text: found[0],
    start: found.index ?? 0,
    end: (found.index ?? 0) + found[0].length,
  }));
}
