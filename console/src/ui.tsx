// The small parts that all pages are made of. Every text becomes a text node: nothing that a
// document says is ever markup.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Answer, type Ask, Failed, curl, send } from "./api";
import { type Asked, useIsThere } from "./ask";
import { type Line, pretty } from "./json";
import { hrefOf } from "./route";

export function Panel(props: {
  title?: ComponentChildren;
  asked?: Asked;
  side?: ComponentChildren;
  children?: ComponentChildren;
}) {
  const { title, asked, side, children } = props;
  return (
    <section class="panel">
      {(title || side || asked) && (
        <header>
          <h2>{title}</h2>
          <div class="side">
            {side}
            {asked?.ask && <Curl ask={asked.ask} />}
          </div>
        </header>
      )}
      {asked?.failed && <Problem failed={asked.failed} />}
      {asked?.isWaiting && <p class="quiet">…</p>}
      {children}
    </section>
  );
}

/** The same request for a shell, to be copied. */
export function Curl({ ask }: { ask: Ask | (() => Ask) }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <span class="curl">
      <button
        type="button"
        class="small plain"
        aria-expanded={isOpen}
        title="The same as a line for a shell"
        onClick={() => setOpen(!isOpen)}
      >
        curl
      </button>
      {isOpen && <Copied text={curl(typeof ask === "function" ? ask() : ask)} />}
    </span>
  );
}

/** A line for a shell, and a button that copies it. */
export function Copied({ text }: { text: string }) {
  const [said, setSaid] = useState("");
  const box = useRef<HTMLElement>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("copied");
    } catch {
      // Without TLS a browser gives the clipboard to pages of this machine only.
      if (box.current) getSelection()?.selectAllChildren(box.current);
      setSaid("marked: press Ctrl-C");
    }
  };
  return (
    <span class="copied">
      <code ref={box}>{text}</code>
      <button type="button" class="small" onClick={copy}>
        Copy
      </button>
      <span role="status" class="quiet">
        {said}
      </span>
    </span>
  );
}

export function Problem({ failed }: { failed: Failed }) {
  const outcome: Record<string, string> = {
    notApplied: "Nothing was changed.",
    unknown: "It may have happened all the same: look before you repeat it.",
  };
  return (
    <div class="problem" role="alert">
      <strong>
        {failed.status > 0 ? `${failed.status} ` : ""}
        {failed.code}
      </strong>{" "}
      {failed.message} {outcome[failed.outcome] ?? ""}
    </div>
  );
}

/** A button that sends a request; what became of it stands beside it. */
export function Action(props: {
  label: string;
  ask: () => Ask;
  done?: (answer: Answer) => void;
  /** What is asked before, if it cannot be taken back. */
  confirm?: string;
  kind?: "primary" | "danger";
  disabled?: boolean;
}) {
  const { label, ask, done, confirm, kind, disabled } = props;
  const [state, setState] = useState<"" | "asks" | "waits" | "done">("");
  const [failed, setFailed] = useState<Failed | null>(null);
  const isThere = useIsThere();
  const run = async () => {
    setState("waits");
    setFailed(null);
    try {
      const answer = await send(ask());
      if (isThere()) setState("done");
      done?.(answer);
    } catch (error) {
      if (!isThere()) return;
      setState("");
      setFailed(error instanceof Failed ? error : new Failed(0, "", String(error)));
    }
  };
  return (
    <span class="action">
      {state === "asks" ? (
        <span class="confirm" role="alertdialog" aria-label={label}>
          {confirm}{" "}
          <button type="button" class={kind ?? ""} autofocus onClick={run}>
            Yes, {label.toLowerCase()}
          </button>{" "}
          <button type="button" onClick={() => setState("")}>
            No
          </button>
        </span>
      ) : (
        <button
          type="button"
          class={kind ?? ""}
          disabled={disabled || state === "waits"}
          onClick={() => (confirm ? setState("asks") : run())}
        >
          {label}
        </button>
      )}
      <Curl ask={ask} />
      {state === "done" && (
        <span role="status" class="good-text">
          done
        </span>
      )}
      {failed && <Problem failed={failed} />}
    </span>
  );
}

const PART = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|\b(true|false|null)\b/g;

/** JSON in colours; texts that are links can be followed. */
export function Json({ value }: { value: unknown }) {
  return (
    <pre class="json" tabIndex={0} role="region" aria-label="JSON">
      {pretty(value)
        .split("\n")
        .map((line) => (
          <span class="line">
            {inColours(line)}
            {"\n"}
          </span>
        ))}
    </pre>
  );
}

function inColours(line: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const found of line.matchAll(PART)) {
    parts.push(line.slice(end, found.index));
    const [all, text, colon, number] = found;
    if (text && colon) parts.push(<span class="j-name">{text}</span>, colon);
    else if (text) parts.push(textOrLink(text));
    else parts.push(<span class={number ? "j-number" : "j-word"}>{all}</span>);
    end = (found.index ?? 0) + all.length;
  }
  parts.push(line.slice(end));
  return parts;
}

function textOrLink(quoted: string) {
  const isLink = /^"\/[a-z][\w./:~@-]*(\?documentVersion=\d+)?"$/i.test(quoted);
  if (!isLink) return <span class="j-text">{quoted}</span>;
  return (
    <a class="j-text" href={hrefOf(quoted.slice(1, -1))}>
      {quoted}
    </a>
  );
}

export function Diff({ lines }: { lines: Line[] }) {
  const names = { " ": "", "-": "gone", "+": "come" };
  const isSame = lines.every((line) => line.mark === " ");
  return (
    <pre class="json diff" tabIndex={0} role="region" aria-label="Difference">
      {isSame && <span class="quiet">{"no difference\n"}</span>}
      {lines.map(({ mark, text }) => (
        <span class={`line ${names[mark]}`}>
          {mark} {text}
          {"\n"}
        </span>
      ))}
    </pre>
  );
}

/** A table that scrolls in itself where it is too wide. */
export function Table(props: {
  head: ComponentChildren[];
  children: ComponentChildren;
  empty?: string;
}) {
  const rows = [props.children].flat();
  if (rows.length === 0) return <p class="quiet">{props.empty ?? "none"}</p>;
  return (
    <div class="scrolls" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>
            {props.head.map((name) => (
              <th scope="col">{name}</th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </div>
  );
}

export type Tone = "good" | "warn" | "bad" | "calm";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function Link({ to, children }: { to: string; children?: ComponentChildren }) {
  return <a href={hrefOf(to)}>{children ?? to}</a>;
}

/** What `/explain` says of something. */
export function Findings({ body }: { body: any }) {
  const findings: any[] = body?.findings ?? [];
  if (findings.length === 0) return <p class="good-text">Nothing is in its way.</p>;
  return (
    <ul class="findings">
      {findings.map((finding) => (
        <li>
          <Badge tone={finding.remedy ? "bad" : "calm"}>{finding.waitsFor}</Badge> {finding.text}
          {finding.forMillis !== undefined && (
            <span class="quiet"> (for {lasting(Number(finding.forMillis))})</span>
          )}
          {finding.remedy && (
            <div class="remedy">
              <strong>What to do:</strong> {finding.remedy}
            </div>
          )}
        </li>
      ))}
    </ul>
  );
}

export function Tabs(props: {
  tabs: [id: string, label: string][];
  at: string;
  hrefOf: (id: string) => string;
}) {
  return (
    <nav class="tabs" aria-label="Parts of this page">
      {props.tabs.map(([id, label]) => (
        <a href={props.hrefOf(id)} aria-current={id === props.at ? "page" : undefined}>
          {label}
        </a>
      ))}
    </nav>
  );
}

/** A field of a form with its name. */
export function Field({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
    </label>
  );
}

/** What a field of text may be told beside its name: attributes of HTML. */
interface TextOptions {
  type?: "text" | "password" | "number";
  name?: string;
  placeholder?: string;
  autocomplete?: "username" | "current-password" | "new-password" | "off";
  autocapitalize?: "off";
  autofocus?: boolean;
  required?: boolean;
  min?: number;
}

/** A field in which a line of text is typed. */
export function TextField({
  label,
  set,
  type,
  ...input
}: TextOptions & { label: string; value: string; set: (text: string) => void }) {
  // The types of preact want to know which one it is.
  const text = (type ?? "text") as "text";
  return (
    <Field label={label}>
      <input type={text} {...input} onInput={(event) => set(event.currentTarget.value)} />
    </Field>
  );
}

/** Microseconds since 1970, as people read them. */
export function Time({ micros }: { micros: unknown }) {
  const millis = Number(micros ?? 0) / 1000;
  if (!millis) return <span class="quiet">–</span>;
  const date = new Date(millis);
  return (
    <time dateTime={date.toISOString()} title={date.toISOString()}>
      {clock(date)}
    </time>
  );
}

export function clock(date: Date): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const isToday = date.toDateString() === new Date().toDateString();
  if (isToday) return time;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

export function lasting(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 90_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  if (count < 1024 ** 2) return `${(count / 1024).toFixed(1)} KiB`;
  if (count < 1024 ** 3) return `${(count / 1024 ** 2).toFixed(1)} MiB`;
  return `${(count / 1024 ** 3).toFixed(1)} GiB`;
}

/** The title of the page, for the window and for those who hear it. */
export function useTitle(title: string) {
  useEffect(() => {
    document.title = `${title} · Amrita`;
  }, [title]);
}
