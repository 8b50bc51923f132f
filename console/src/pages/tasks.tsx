// Tasks: where each stands, why one does not go on, and an end to it.
import { useState } from "preact/hooks";
import { encoded, withParameters } from "../api";
import { useAsk } from "../ask";
import { isTask } from "../fields";
import { hrefOf } from "../route";
import { Action, Badge, Findings, Panel, Table, Time, type Tone, lasting, useTitle } from "../ui";

const TONES: Record<string, Tone> = {
  CREATED: "calm",
  STARTED: "warn",
  FINISHED: "good",
  FAILED: "bad",
  CANCELLED: "calm",
};

const hasEnded = (stage: string) => ["FINISHED", "FAILED", "CANCELLED"].includes(stage);

export function Stage({ info }: { info: any }) {
  return (
    <>
      <Badge tone={TONES[info?.stage] ?? "calm"}>{info?.stage ?? "?"}</Badge>
      {info?.undoing === true && <Badge tone="warn">UNDOING</Badge>}
      {info?.held === true && <Badge tone="bad">HELD</Badge>}
    </>
  );
}

const STAGES = ["", "CREATED", "STARTED", "FINISHED", "FAILED", "CANCELLED"];

export function Tasks() {
  useTitle("Tasks");
  const root = useAsk({ path: "/" });
  const [stage, setStage] = useState("");
  const links: string[] = root.answer?.body?.documentLinks ?? [];
  return (
    <>
      <h1>Tasks</h1>
      <p class="row">
        <label>
          Stage{" "}
          <select value={stage} onChange={(event) => setStage(event.currentTarget.value)}>
            {STAGES.map((it) => (
              <option value={it}>{it === "" ? "all" : it}</option>
            ))}
          </select>
        </label>
      </p>
      {root.failed && <Panel asked={root} />}
      {links
        .filter((link) => link !== "/core/immortals")
        .map((link) => (
          <Factory link={link} stage={stage} key={link} />
        ))}
    </>
  );
}

function Factory({ link, stage }: { link: string; stage: string }) {
  const template = useAsk({ path: `${encoded(link)}/template` });
  if (!template.answer || !isTask(template.answer.body)) return null;
  return <OfFactory link={link} stage={stage} about={template.answer.body.documentDescription} />;
}

const SHOWN = 25;

function OfFactory({ link, stage, about }: { link: string; stage: string; about: any }) {
  const path = withParameters(`${encoded(link)}?expand`, {
    $orderby: "documentUpdateTimeMicros desc",
    $orderbytype: "LONG",
    $top: String(SHOWN),
    $filter: stage ? `taskInfo.stage eq '${stage}'` : "",
  });
  const asked = useAsk({ path }, 2_000);
  const links: string[] = asked.answer?.body?.documentLinks ?? [];
  return (
    <Panel title={<a href={hrefOf(link)}>{link}</a>} asked={asked}>
      <p class="quiet">
        {about?.description} The newest {SHOWN}, asked again every 2 s.
      </p>
      <Table head={["Task", "Stage", "Began", "Took", "What it says", "Do"]} empty="No task here.">
        {links.map((it) => (
          <Task link={it} factory={link} state={asked.answer?.body?.documents?.[it]} key={it} />
        ))}
      </Table>
    </Panel>
  );
}

function Task({ link, factory, state }: { link: string; factory: string; state: any }) {
  const [isOpen, setOpen] = useState(false);
  const info = state?.taskInfo ?? {};
  const micros = Number(info.durationMicros ?? 0);
  return (
    <>
      <tr>
        <th scope="row">
          <a href={hrefOf(link)}>{link.slice(factory.length + 1)}</a>
        </th>
        <td>
          <Stage info={info} />
        </td>
        <td>
          <Time micros={info.startTimeMicros} />
        </td>
        <td>{micros > 0 ? lasting(micros / 1000) : ""}</td>
        <td class="cut">{state?.failureMessage ?? state?.subStage ?? ""}</td>
        <td>
          <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            Explain
          </button>{" "}
          {(!hasEnded(info.stage) || info.undoing === true) && <Controls link={link} info={info} />}
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={6}>
            <Explained link={link} />
          </td>
        </tr>
      )}
    </>
  );
}

/** One field of taskInfo, alone: that is how a task is held, released and the like. */
function Controls({ link, info }: { link: string; info: any }) {
  const ask = (taskInfo: any) => () => ({
    method: "PATCH",
    path: encoded(link),
    body: { taskInfo },
  });
  return (
    <>
      {info.held === true ? (
        <Action label="Release" ask={ask({ held: false })} />
      ) : (
        <>
          <Action label="Hold" ask={ask({ held: true })} />{" "}
          <Action label="Retry" ask={ask({ retry: true })} />
        </>
      )}{" "}
      <Action
        label="Skip"
        kind="danger"
        confirm="Go on without the answers that its step waits for? Whether that was done stays unknown."
        ask={ask({ skip: true })}
      />{" "}
      {!hasEnded(info.stage) && (
        <Action
          label="Cancel"
          kind="danger"
          confirm="Cancel this task?"
          ask={ask({ stage: "CANCELLED" })}
        />
      )}
    </>
  );
}

function Explained({ link }: { link: string }) {
  const asked = useAsk({ path: `${encoded(link)}/explain` }, 2_000);
  return (
    <Panel asked={asked} title="Why it does not go on">
      {asked.answer && <Findings body={asked.answer.body} />}
    </Panel>
  );
}
