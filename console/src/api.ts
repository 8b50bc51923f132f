// Requests to the node that this page came from. The page has no other way to anything.
import { parse, stringify } from "./json";
import { Store } from "./store";

/** What is asked of the node. */
export interface Ask {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  /** JSON: a value, or a text that is sent as it stands. */
  body?: unknown;
  /** What stands in place of the body where the request is shown: secrets are not. */
  shown?: unknown;
}

export interface Answer {
  status: number;
  /** The body, if it is JSON; no digit of its numbers is lost. */
  body: any;
  text: string;
  etag: string | null;
  behind: string | null;
  location: string | null;
}

/** An answer that is an error, or none at all (status 0). */
export class Failed extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly outcome = "",
    readonly answer: Answer | null = null,
  ) {
    super(message);
  }
}

/** True: the node wants to know who asks. */
export const needsLogin = new Store(false);

/** A token that somebody has typed in. It is kept here and nowhere else: it is gone with the tab. */
let token = "";

export function useToken(text: string) {
  token = text.trim();
}

export function hasToken(): boolean {
  return token !== "";
}

/** Longer than the node itself is patient. */
const PATIENCE_MS = 30_000;

/** The headers of a request, as they are sent and as `curl` shows them. */
function headersOf(ask: Ask): Record<string, string> {
  const headers: Record<string, string> = { ...ask.headers };
  if (ask.body !== undefined) headers["Content-Type"] ??= "application/json";
  return headers;
}

function textOf(ask: Ask): string | undefined {
  if (ask.body === undefined) return undefined;
  return typeof ask.body === "string" ? ask.body : stringify(ask.body);
}

export async function request(ask: Ask, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json", ...headersOf(ask) };
  if (token && !headers.Authorization) headers.Authorization = `Bearer ${token}`;
  const { method = "GET" } = ask;
  return fetch(ask.path, {
    method,
    headers,
    body: textOf(ask),
    signal,
    cache: "no-store",
    credentials: "same-origin",
    redirect: "error",
  });
}

/** Sends a request. Throws `Failed` unless the answer is a success. */
export async function send(ask: Ask, signal?: AbortSignal): Promise<Answer> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const both = signal ? AbortSignal.any([signal, patience]) : patience;
  let response: Response;
  let text: string;
  try {
    response = await request(ask, both);
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const why = error instanceof Error ? error.message : String(error);
    const isWrite = (ask.method ?? "GET") !== "GET";
    const outcome = isWrite ? "unknown" : "";
    throw new Failed(0, "NO_ANSWER", `this node does not answer (${why})`, outcome);
  }
  const answer: Answer = {
    status: response.status,
    body: null,
    text,
    etag: response.headers.get("etag"),
    behind: response.headers.get("amrita-behind"),
    location: response.headers.get("location"),
  };
  if (response.headers.get("content-type")?.startsWith("application/json") && text !== "") {
    answer.body = parse(text);
  }
  if (!response.ok) throw failure(answer, ask);
  return answer;
}

export function failure(answer: Answer, ask: Ask): Failed {
  const { status, body } = answer;
  if (status === 401 && ask.path !== LOGIN) needsLogin.set(true);
  const message = body?.message ?? `the answer is ${status}`;
  return new Failed(status, body?.code ?? "", message, body?.outcome ?? "", answer);
}

export const LOGIN = "/core/authn/basic";

/** The session is the cookie that comes with the answer; no script can read it. */
export async function logIn(user: string, password: string): Promise<void> {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  const basic = btoa(String.fromCharCode(...bytes));
  await send({
    method: "POST",
    path: LOGIN,
    headers: { Authorization: `Basic ${basic}` },
    body: { requestType: "LOGIN" },
  });
  token = "";
  needsLogin.set(false);
}

export async function logOut(): Promise<void> {
  await send({ method: "POST", path: LOGIN, body: { requestType: "LOGOUT" } });
  token = "";
}

/** Whether anybody has to log in here; `curl` then needs a token. */
export const security = new Store({ isOn: false });

function quoted(text: string): string {
  return /^[\w@%+=:,./?&-]+$/.test(text) && !/[&?]/.test(text)
    ? text
    : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The same request as a line for a shell. Passwords and tokens do not stand in it. */
export function curl(ask: Ask): string {
  const parts = ["curl -s"];
  const { method = "GET" } = ask;
  const text = textOf(ask.shown === undefined ? ask : { ...ask, body: ask.shown });
  const implied = text === undefined ? "GET" : "POST";
  if (method !== implied) parts.push(`-X ${method}`);
  if (location.protocol === "https:") parts.push("--cacert ca.pem");
  if (security.now().isOn) parts.push('-H "Authorization: Bearer $AMRITA_TOKEN"');
  for (const [name, value] of Object.entries(headersOf(ask))) {
    const isImplied = name === "Content-Type" && value === "application/json";
    if (!isImplied) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  parts.push(quoted(location.origin + ask.path));
  if (text !== undefined) parts.push(`-d ${quoted(text)}`);
  return parts.join(" ");
}

/** A link as it stands in a path. */
export function encoded(link: string): string {
  return link.split("/").map(encodeURIComponent).join("/");
}

/** A path with parameters. */
export function withParameters(path: string, parameters: Record<string, string>): string {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== "");
  if (pairs.length === 0) return path;
  const text = pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  return `${path}${path.includes("?") ? "&" : "?"}${text}`;
}

/** The condition that what was read is still what is there. */
export function matching(answer: Answer | null): Record<string, string> {
  return answer?.etag ? { "If-Match": answer.etag } : {};
}
