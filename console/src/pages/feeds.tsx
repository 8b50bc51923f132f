// Changes of documents, as they happen.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Ask, Failed, withParameters } from "../api";
import { type Change, follow } from "../events";
import { diff, pretty } from "../json";
import {
  Badge,
  clock,
  Curl,
  Diff,
  Json,
  Link,
  Panel,
  Problem,
  TextField,
  type Tone,
  useTitle,
} from "../ui";

/** So many changes are shown; older ones go. */
const SHOWN_MAX = 300;

/** How long after a break it is tried again. */
const AGAIN_MS = 1_500;

export function Feeds({ parameters }: { parameters: URLSearchParams }) {
  useTitle("Feeds");
  const [prefix, setPrefix] = useState(parameters.get("prefix") ?? "");
  const [filter, setFilter] = useState("");
  const [used, setUsed] = useState({ prefix, filter });
  const path = withParameters("/core/changes", { prefix: used.prefix, $filter: used.filter });
  return (
    <>
      <h1>Feeds</h1>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          setUsed({ prefix, filter });
        }}
      >
        <TextField label="Links that begin with" placeholder="all" value={prefix} set={setPrefix} />
        <TextField label="Filter" placeholder="counter ge 5" value={filter} set={setFilter} />
        <button type="submit">Watch</button>
      </form>
      <Feed path={path} key={path} />
    </>
  );
}

interface Told {
  at: Date;
  number: number;
  change: Change;
}

type Mood = "begins" | "runs" | "stopped";

/** The changes at one path. After a break it goes on behind the last change that it was told. */
export function Feed({ path }: { path: string }) {
  const [rows, setRows] = useState<Told[]>([]);
  const [mood, setMood] = useState<Mood>("begins");
  const [failed, setFailed] = useState<Failed | null>(null);
  const [isStopped, setStopped] = useState(false);
  const token = useRef("");
  const count = useRef(0);
  // Of one document or of a factory; `/core/changes` is a feed already.
  const isAll = path.startsWith("/core/changes");
  const ask: Ask = {
    path: withParameters(path, { ...(isAll ? {} : { watch: "true" }), before: "true" }),
  };
  useEffect(() => {
    if (isStopped) return undefined;
    const stop = new AbortController();
    const told = (change: Change) => {
      const row = { at: new Date(), number: (count.current += 1), change };
      setRows((was) => [row, ...was].slice(0, SHOWN_MAX));
    };
    const isThere = (at: string) => {
      if (at) token.current = at;
      setMood("runs");
      setFailed(null);
    };
    const run = async () => {
      while (!stop.signal.aborted) {
        const after = { path: withParameters(ask.path, { after: token.current }) };
        try {
          await follow(after, isThere, told, stop.signal);
        } catch (error) {
          if (stop.signal.aborted) return;
          const why = error instanceof Failed ? error : new Failed(0, "", String(error));
          setFailed(why);
          setMood("begins");
          // A node that does not know the changes any more: from now on, and it is said.
          if (why.code === "CHANGES_GONE") token.current = "";
          else if (why.status >= 400 && why.status < 500) return setMood("stopped");
        }
        await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    };
    void run();
    return () => stop.abort();
  }, [path, isStopped]);
  const tone: Tone = mood === "runs" && !isStopped ? "good" : "warn";
  return (
    <Panel
      title={
        <>
          Changes <Badge tone={tone}>{isStopped ? "STOPPED" : mood === "runs" ? "LIVE" : "…"}</Badge>
        </>
      }
      side={
        <>
          <button type="button" class="small" onClick={() => setStopped(!isStopped)}>
            {isStopped ? "Go on" : "Stop"}
          </button>
          <button type="button" class="small" onClick={() => setRows([])}>
            Clear
          </button>
          <Curl ask={{ path: ask.path, headers: { Accept: "text/event-stream" } }} />
        </>
      }
    >
      {failed && <Problem failed={failed} />}
      {rows.length === 0 && <p class="quiet">Nothing so far. Each change comes here at once.</p>}
      <ol class="feed" aria-live="off">
        {rows.map((row) => (
          <Row {...row} key={row.number} />
        ))}
      </ol>
    </Panel>
  );
}

const TONES: Record<string, Tone> = { POST: "good", DELETE: "bad", EXPIRE: "bad" };

function Row({ at, change }: Told) {
  const [isOpen, setOpen] = useState(false);
  const { link, version, action, isMatch, document, before } = change;
  return (
    <li>
      <button type="button" class="plain" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        {isOpen ? "▾" : "▸"} <time>{clock(at)}</time>
      </button>{" "}
      <Badge tone={TONES[action] ?? "calm"}>{action}</Badge> <Link to={link} />{" "}
      <span class="quiet">
        version {String(version)}
        {isMatch ? "" : ", no more one of those that are watched"}
      </span>
      {isOpen && before && <Diff lines={diff(pretty(before), pretty(document))} />}
      {isOpen && !before && <Json value={document} />}
    </li>
  );
}

