// Changes as a node tells them: Server-Sent Events, read from the answer as it comes. (An
// `EventSource` cannot say why it was refused, and sends no token.)
import { type Answer, type Ask, Failed, failure, request } from "./api";
import { parse } from "./json";

export interface Change {
  link: string;
  version: unknown;
  action: string;
  isMatch: boolean;
  document: any;
  before: any;
  token: string;
}

/** Reads until it is stopped, or the node ends it; then it throws `Failed`. */
export async function follow(
  ask: Ask,
  isThere: (token: string) => void,
  told: (change: Change) => void,
  signal: AbortSignal,
): Promise<void> {
  const headers = { ...ask.headers, Accept: "text/event-stream" };
  let response: Response;
  try {
    response = await request({ ...ask, headers }, signal);
  } catch (error) {
    if (signal.aborted) return;
    throw new Failed(0, "NO_ANSWER", `this node does not answer (${String(error)})`);
  }
  if (!response.ok || response.body === null) {
    const text = await response.text();
    const body = text.startsWith("{") ? parse(text) : null;
    const { status } = response;
    const answer: Answer = { status, body, text, etag: null, behind: null, location: null };
    throw failure(answer, ask);
  }
  isThere("");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      rest += value.replaceAll("\r", "");
      const whole = rest.split("\n\n");
      rest = whole.pop() ?? "";
      for (const event of whole) take(event, isThere, told);
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Failed) throw error;
    throw new Failed(0, "NO_ANSWER", `the stream has broken off (${String(error)})`);
  }
  if (!signal.aborted) throw new Failed(0, "ENDED", "the node has ended the stream");
}

function take(event: string, isThere: (token: string) => void, told: (change: Change) => void) {
  let [name, id, data] = ["message", "", ""];
  for (const line of event.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? ["", "", ""];
    if (field === "event") name = value;
    else if (field === "id") id = value;
    else if (field === "data") data += (data && "\n") + value;
  }
  if (id) isThere(id);
  if (data === "") return;
  const body = parse(data);
  if (name === "error") {
    throw new Failed(Number(body.statusCode ?? 0), body.code ?? "", body.message ?? "an error");
  }
  if (body.link !== undefined) told(body);
}
