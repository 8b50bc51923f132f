// One document: its state, an edit of it, its versions, what it waits for, and what happens to it.
import { useEffect, useState } from "preact/hooks";
import { type Answer, type Ask, Failed, encoded, matching, send } from "../api";
import { type Asked, useAsk } from "../ask";
import { type Draft, draftOf, editable } from "../draft";
import { diff } from "../json";
import { isTask } from "../fields";
import { go, href, hrefOf } from "../route";
import { Action, Curl, Diff, Findings, Json, Panel, Problem, Tabs, Time, useTitle } from "../ui";
import { Feed } from "./feeds";
import { History } from "./history";
import { shownLag } from "./overview";
import { Stage } from "./tasks";

export function Document({ link, parameters }: { link: string; parameters: URLSearchParams }) {
  useTitle(link);
  const tab = parameters.get("tab") ?? "state";
  const factory = link.slice(0, link.lastIndexOf("/"));
  const to = (id: string) => href("documents", link, id === "state" ? {} : { tab: id });
  return (
    <>
      <h1>
        <a href={href("documents")}>Documents</a> <a href={hrefOf(factory)}>{factory}</a>{" "}
        <span class="path">{link.slice(factory.length + 1)}</span>
      </h1>
      <Tabs
        at={tab}
        hrefOf={to}
        tabs={[
          ["state", "State"],
          ["history", "Versions"],
          ["explain", "Explain"],
          ["live", "Live"],
        ]}
      />
      {tab === "state" && <Present link={link} key={link} />}
      {tab === "history" && (
        <History link={link} at={parameters.get("at")} key={link} />
      )}
      {tab === "explain" && <Explain link={link} />}
      {tab === "live" && <Feed path={encoded(link)} key={link} />}
    </>
  );
}

function Present({ link }: { link: string }) {
  const asked = useAsk({ path: encoded(link) });
  const template = useAsk({ path: `${encoded(link)}/template` });
  const [edited, setEdited] = useState<Answer | null>(null);
  const state = asked.answer?.body;
  const isOfTask = isTask(template.answer?.body);
  if (edited) {
    const end = () => {
      setEdited(null);
      asked.again();
    };
    return <Edit link={link} base={edited} isTask={isOfTask} end={end} />;
  }
  return (
    <Panel
      title="State"
      asked={asked}
      side={
        <>
          <button type="button" class="small" onClick={asked.again}>
            Reload
          </button>
          {asked.answer && (
            <button type="button" class="small primary" onClick={() => setEdited(asked.answer)}>
              Edit
            </button>
          )}
        </>
      }
    >
      {state && (
        <>
          <About asked={asked} link={link} />
          <Json value={state} />
          <p class="row">
            <Action
              label="Delete"
              kind="danger"
              confirm="Delete this document? Its versions stay for a while."
              ask={() => ({
                method: "DELETE",
                path: encoded(link),
                headers: matching(asked.answer),
              })}
              done={() => go(hrefOf(link.slice(0, link.lastIndexOf("/"))))}
            />
          </p>
        </>
      )}
    </Panel>
  );
}

function About({ asked, link }: { asked: Asked; link: string }) {
  const state = asked.answer?.body;
  const local = useAsk({ path: `${encoded(link)}?consistency=local` });
  return (
    <dl class="facts">
      <div>
        <dt>Version</dt>
        <dd>{String(state.documentVersion)}</dd>
      </div>
      <div>
        <dt>Changed</dt>
        <dd>
          <Time micros={state.documentUpdateTimeMicros} /> by {state.documentUpdateAction}
        </dd>
      </div>
      <div>
        <dt>Owner</dt>
        <dd>{state.documentOwner}</dd>
      </div>
      {local.answer?.behind && (
        <div>
          <dt>This node's replica</dt>
          <dd>{shownLag(local.answer.behind)}</dd>
        </div>
      )}
      {state.taskInfo && (
        <div>
          <dt>Stage</dt>
          <dd>
            <Stage info={state.taskInfo} />
          </dd>
        </div>
      )}
    </dl>
  );
}

const WAYS: Record<string, { name: string; method: string; headers: Record<string, string> }> = {
  PUT: { name: "Replace the state (PUT)", method: "PUT", headers: {} },
  PATCH: { name: "Change what is named (PATCH)", method: "PATCH", headers: {} },
  MERGE: {
    name: "Merge patch: null removes a field",
    method: "PATCH",
    headers: { "Content-Type": "application/merge-patch+json" },
  },
};

function Edit(props: { link: string; base: Answer; isTask: boolean; end: () => void }) {
  const { link, isTask, end } = props;
  const [base, setBase] = useState(props.base);
  const [draft, setDraft] = useState<Draft>(() => draftOf(editable(props.base.body)));
  const [way, setWay] = useState(isTask ? "PATCH" : "PUT");
  const [conflict, setConflict] = useState<{ failed: Failed; now: Answer | null } | null>(null);
  const [failed, setFailed] = useState<Failed | null>(null);
  const [isSending, setSending] = useState(false);
  const was = editable(base.body);
  const isChanged = draft.text !== was;
  useBeforeLeaving(isChanged);
  const ask = (): Ask => ({
    method: WAYS[way].method,
    path: encoded(link),
    headers: { ...matching(base), ...WAYS[way].headers },
    body: draft.text,
  });
  const save = async () => {
    setSending(true);
    setFailed(null);
    try {
      await send(ask());
      end();
      return;
    } catch (error) {
      const why = error instanceof Failed ? error : new Failed(0, "", String(error));
      if (why.status === 412 || (why.status === 409 && why.code === "VERSION_MISMATCH")) {
        const now = await send({ path: encoded(link) }).catch(() => null);
        setConflict({ failed: why, now });
      } else {
        setFailed(why);
      }
    }
    setSending(false);
  };
  const rebase = (now: Answer, isMine: boolean) => {
    setBase(now);
    if (!isMine) setDraft(draftOf(editable(now.body)));
    setConflict(null);
  };
  return (
    <Panel
      title={`Edit version ${base.body.documentVersion}`}
      side={<Curl ask={ask} />}
    >
      <div class="row" role="radiogroup" aria-label="How it is written">
        {Object.entries(WAYS)
          .filter(([id]) => !(isTask && id === "PUT"))
          .map(([id, { name }]) => (
            <label>
              <input type="radio" name="way" checked={way === id} onChange={() => setWay(id)} />{" "}
              {name}
            </label>
          ))}
      </div>
      <textarea
        class="editor"
        aria-label="State, in JSON"
        spellcheck={false}
        rows={Math.max(8, Math.min(28, draft.text.split("\n").length + 1))}
        value={draft.text}
        onInput={(event) => setDraft(draftOf(event.currentTarget.value))}
        onKeyDown={(event) => {
          const isSave = event.key === "Enter" && (event.ctrlKey || event.metaKey);
          if (isSave && draft.wrong === "") void save();
        }}
      />
      {draft.wrong && <p class="bad-text">{draft.wrong}</p>}
      {failed && <Problem failed={failed} />}
      {conflict && <Conflict {...conflict} draft={draft} rebase={rebase} />}
      <p class="row">
        <button
          type="button"
          class="primary"
          disabled={draft.wrong !== "" || isSending || conflict !== null}
          onClick={save}
        >
          Save
        </button>
        <button type="button" onClick={end}>
          Cancel
        </button>
        <span class="quiet">
          It is saved only if nobody has changed the document meanwhile. Ctrl-Enter saves.
        </span>
      </p>
      {isChanged && draft.wrong === "" && !conflict && (
        <details>
          <summary>What you have changed</summary>
          <Diff lines={diff(was, draft.text)} />
        </details>
      )}
    </Panel>
  );
}

function Conflict(props: {
  failed: Failed;
  now: Answer | null;
  draft: Draft;
  rebase: (now: Answer, isMine: boolean) => void;
}) {
  const { failed, now, draft, rebase } = props;
  return (
    <div class="conflict" role="alert">
      <h3>Somebody else has changed it</h3>
      <p>
        <strong>
          {failed.status} {failed.code}
        </strong>{" "}
        {failed.message} Nothing of yours was written.
      </p>
      {now === null ? (
        <p>The document cannot be read now: it may have been deleted.</p>
      ) : (
        <>
          <p>
            It is now version {String(now.body.documentVersion)}, written by{" "}
            {now.body.documentUpdateAction} at <Time micros={now.body.documentUpdateTimeMicros} />.
            From it (−) to yours (+):
          </p>
          <Diff lines={diff(editable(now.body), draft.text)} />
          <p class="row">
            <button type="button" class="primary" onClick={() => rebase(now, true)}>
              Keep my text and look again
            </button>
            <button type="button" onClick={() => rebase(now, false)}>
              Take theirs, drop mine
            </button>
          </p>
        </>
      )}
    </div>
  );
}

/** A browser asks before a window is closed with an edit that is not saved. */
function useBeforeLeaving(isChanged: boolean) {
  useEffect(() => {
    if (!isChanged) return undefined;
    const asks = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", asks);
    return () => removeEventListener("beforeunload", asks);
  }, [isChanged]);
}

function Explain({ link }: { link: string }) {
  const asked = useAsk({ path: `${encoded(link)}/explain` }, 1_500);
  const body = asked.answer?.body;
  return (
    <Panel title="Why does it not go on?" asked={asked}>
      {body && (
        <>
          <Findings body={body} />
          <p class="quiet">
            Told by {body.toldBy}, from what that node knows; it is asked again every 1.5 s.
          </p>
        </>
      )}
    </Panel>
  );
}
