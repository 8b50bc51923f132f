// A text of JSON that somebody is writing.
import { parse, pretty } from "./json";

export interface Draft {
  text: string;
  value: any;
  /** Why it cannot be sent; empty if it can. */
  wrong: string;
}

export function draftOf(text: string): Draft {
  try {
    const value = parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return { text, value, wrong: isObject ? "" : "a state is an object: { ... }" };
  } catch (error) {
    return { text, value: null, wrong: error instanceof Error ? error.message : String(error) };
  }
}

/** Of a document's fields those that the node itself sets: nobody edits them. */
const BUILT_IN = [
  "documentVersion",
  "documentEpoch",
  "documentKind",
  "documentSelfLink",
  "documentUpdateTimeMicros",
  "documentUpdateAction",
  "documentUpdateNode",
  "documentOwner",
  "documentAuthPrincipalLink",
];

/** The part of a document that somebody may edit. */
export function editable(state: any): string {
  const own = Object.entries(state ?? {}).filter(([name, value]) => {
    const isNever = name === "documentExpirationTimeMicros" && !value;
    return !BUILT_IN.includes(name) && !isNever;
  });
  return pretty(Object.fromEntries(own));
}
