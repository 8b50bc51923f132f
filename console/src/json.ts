// JSON without loss of digits, laid out for people. Reading and writing are the package's for
// TypeScript, so that there is one reader of it in this repository.
import { parse, stringify } from "../../sdks/typescript/src/json.js";

export { parse, stringify };

/** Lines of JSON, indented by two blanks. */
export function pretty(value: unknown): string {
  const out: string[] = [];
  put(value, "", "", "", out);
  return out.join("\n");
}

function put(value: unknown, indent: string, before: string, after: string, out: string[]) {
  const isList = Array.isArray(value);
  if (isList || isPlainObject(value)) {
    const rows = isList
      ? value.map((item) => ["", item] as const)
      : Object.entries(value as object).map(([k, v]) => [`${JSON.stringify(k)}: `, v] as const);
    const [open, close] = isList ? "[]" : "{}";
    if (rows.length === 0) {
      out.push(`${indent}${before}${open}${close}${after}`);
      return;
    }
    out.push(`${indent}${before}${open}`);
    rows.forEach(([name, item], at) => {
      put(item, `${indent}  `, name, at + 1 < rows.length ? "," : "", out);
    });
    out.push(`${indent}${close}${after}`);
    return;
  }
  out.push(`${indent}${before}${stringify(value)}${after}`);
}

/** What the reader makes of an object of JSON; a number that keeps its text is none. */
function isPlainObject(value: unknown): boolean {
  return (
    typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype
  );
}

/** A line of a comparison of two texts. */
export interface Line {
  mark: " " | "-" | "+";
  text: string;
}

/** Beyond so many pairs of lines, what differs is shown as one block: to compare would take long. */
const PAIRS_MAX = 4_000_000;

/** What was, and what is, line by line. */
export function diff(before: string, after: string): Line[] {
  const a = before.split("\n");
  const b = after.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (
    end < a.length - start &&
    end < b.length - start &&
    a[a.length - 1 - end] === b[b.length - 1 - end]
  )
    end += 1;
  const same = (lines: string[]): Line[] => lines.map((text) => ({ mark: " ", text }));
  return [
    ...same(a.slice(0, start)),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...same(a.slice(a.length - end)),
  ];
}

function middle(a: string[], b: string[]): Line[] {
  const gone = (text: string): Line => ({ mark: "-", text });
  const come = (text: string): Line => ({ mark: "+", text });
  if (a.length * b.length > PAIRS_MAX) return [...a.map(gone), ...b.map(come)];
  // The length of the longest common part of what follows each pair of places.
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      longest[at] =
        a[i] === b[j]
          ? longest[at + width + 1] + 1
          : Math.max(longest[at + width], longest[at + 1]);
    }
  }
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      lines.push({ mark: " ", text: a[i] });
      [i, j] = [i + 1, j + 1];
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
      lines.push(gone(a[i++]));
    } else {
      lines.push(come(b[j++]));
    }
  }
  return [...lines, ...a.slice(i).map(gone), ...b.slice(j).map(come)];
}
