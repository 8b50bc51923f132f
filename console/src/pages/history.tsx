// The versions of a document: a slider over them, and what differs between two of them.
import { useEffect, useMemo, useState } from "preact/hooks";
import { type Answer, Failed, encoded, send } from "../api";
import { useAsk } from "../ask";
import { editable } from "../draft";
import { diff, pretty } from "../json";
import { go, href } from "../route";
import { Curl, Diff, Json, Panel, Problem, Time } from "../ui";

/** The kept versions, oldest first. */
function queryOf(link: string) {
  const term = { propertyName: "documentSelfLink", matchValue: link };
  return {
    taskInfo: { isDirect: true },
    querySpec: { options: ["INCLUDE_ALL_VERSIONS", "INCLUDE_DELETED"], query: { term } },
  };
}

export function History({ link, at }: { link: string; at: string | null }) {
  const asked = useAsk({ method: "POST", path: "/core/query-tasks", body: queryOf(link) });
  const versions = useMemo(() => {
    const links: string[] = asked.answer?.body?.results?.documentLinks ?? [];
    const numbers = links.map((it) => Number(/documentVersion=(\d+)/.exec(it)?.[1] ?? NaN));
    return [...new Set(numbers.filter((it) => !Number.isNaN(it)))].sort((a, b) => a - b);
  }, [asked.answer]);
  const [against, setAgainst] = useState<number | null>(null);
  const wanted = at === null ? versions.length - 1 : versions.indexOf(Number(at));
  const place = wanted < 0 ? versions.length - 1 : wanted;
  const version = versions[place];
  const before = against ?? versions[place - 1];
  const move = (to: number) => {
    const next = versions[Math.max(0, Math.min(versions.length - 1, to))];
    history.replaceState(null, "", href("documents", link, { tab: "history", at: String(next) }));
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const now = useVersion(link, version);
  const old = useVersion(link, before);
  return (
    <Panel title="Versions" asked={asked}>
      {asked.answer && versions.length === 0 && <p class="quiet">No version is kept.</p>}
      {versions.length > 0 && (
        <>
          <div class="slider">
            <button type="button" aria-label="Older" disabled={place === 0} onClick={() => move(place - 1)}>
              ←
            </button>
            <input
              type="range"
              aria-label="Version"
              aria-valuetext={`version ${version}`}
              min={0}
              max={versions.length - 1}
              value={place}
              onInput={(event) => move(Number(event.currentTarget.value))}
            />
            <button
              type="button"
              aria-label="Newer"
              disabled={place === versions.length - 1}
              onClick={() => move(place + 1)}
            >
              →
            </button>
          </div>
          <div class="row">
            <strong>Version {version}</strong>
            <span>
              {place + 1} of {versions.length} that are kept
            </span>
            {now.answer && <Who state={now.answer.body} />}
            <Curl ask={{ path: pathOf(link, version) }} />
            {at !== null && place < versions.length - 1 && (
              <button type="button" class="small" onClick={() => go(href("documents", link, { tab: "history" }))}>
                Newest
              </button>
            )}
          </div>
          {now.failed && <Problem failed={now.failed} />}
          {now.answer && (
            <>
              <label class="row">
                Compared with{" "}
                <select
                  value={before === undefined ? "" : String(before)}
                  onChange={(event) => {
                    const chosen = event.currentTarget.value;
                    setAgainst(chosen === "" ? null : Number(chosen));
                  }}
                >
                  <option value="">{before === undefined ? "nothing before it" : "the one before"}</option>
                  {versions.map((it) => (
                    <option value={String(it)}>version {it}</option>
                  ))}
                </select>
              </label>
              <Diff lines={diff(old.answer ? editable(old.answer.body) : "", editable(now.answer.body))} />
              <details>
                <summary>All of version {version}</summary>
                <Json value={now.answer.body} />
              </details>
            </>
          )}
        </>
      )}
    </Panel>
  );
}

function Who({ state }: { state: any }) {
  return (
    <span>
      {state.documentUpdateAction} at <Time micros={state.documentUpdateTimeMicros} />, written by{" "}
      {state.documentUpdateNode}
      {state.documentAuthPrincipalLink ? ` for ${state.documentAuthPrincipalLink}` : ""}
    </span>
  );
}

function pathOf(link: string, version: number): string {
  return `${encoded(link)}?documentVersion=${version}`;
}

/** Versions do not change, so each is read once: the slider then moves without a wait. */
const READ_MAX = 500;
const read = new Map<string, Answer>();

function useVersion(link: string, version: number | undefined) {
  const path = version === undefined ? "" : pathOf(link, version);
  const [state, setState] = useState<{ path: string; failed: Failed | null }>({ path: "", failed: null });
  useEffect(() => {
    if (path === "" || read.has(path)) return undefined;
    const stop = new AbortController();
    send({ path }, stop.signal)
      .then((answer) => {
        if (read.size >= READ_MAX) read.clear();
        read.set(path, answer);
        setState({ path, failed: null });
      })
      .catch((error) => {
        if (stop.signal.aborted) return;
        setState({ path, failed: error instanceof Failed ? error : new Failed(0, "", pretty(String(error))) });
      });
    return () => stop.abort();
  }, [path]);
  return { answer: read.get(path) ?? null, failed: state.path === path ? state.failed : null };
}
