// Immortals: each instance with its replicas, how far each has come, and what can be done.
import { useState } from "preact/hooks";
import { encoded } from "../api";
import { useAsk } from "../ask";
import { href } from "../route";
import {
  Action,
  Badge,
  bytes,
  Copied,
  Findings,
  Json,
  Panel,
  Table,
  TextField,
  type Tone,
  useTitle,
} from "../ui";

const FACTORY = "/core/immortals";
const pathOf = (name: string) => `${FACTORY}/${encodeURIComponent(name)}`;

const TONES: Record<string, Tone> = {
  PRIMARY: "good",
  STANDBY: "calm",
  RECOVERING: "warn",
  WAITING: "warn",
  HELD: "bad",
  DIVERGED: "bad",
  UNKNOWN: "bad",
};

export function Immortals() {
  useTitle("Immortals");
  const asked = useAsk({ path: `${FACTORY}?expand` }, 2_000);
  const [name, setName] = useState("");
  const links: string[] = asked.answer?.body?.documentLinks ?? [];
  return (
    <>
      <h1>Immortals</h1>
      <Panel title="Instances" asked={asked}>
        <Table
          head={["Instance", "Owner", "Inputs", "Replicas", "Lag", "Waits for"]}
          empty={asked.isWaiting ? "" : "No instance is registered."}
        >
          {links.map((link) => (
            <Row link={link} state={asked.answer?.body?.documents?.[link] ?? {}} key={link} />
          ))}
        </Table>
      </Panel>
      <Panel title="Register">
        <div class="row">
          <input
            type="text"
            aria-label="Name of the instance"
            placeholder="name"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <Action
            label="Register"
            kind="primary"
            disabled={name === ""}
            ask={() => ({ method: "POST", path: FACTORY, body: { name } })}
            done={asked.again}
          />
        </div>
        <p class="quiet">Then attach a program, for example the one of the tutorial:</p>
        <Copied text={`amrita example hello-server --node ${location.origin} --instance ${name || "NAME"}`} />
      </Panel>
    </>
  );
}

function Row({ link, state }: { link: string; state: any }) {
  const name = state.name ?? link.slice(FACTORY.length + 1);
  const replicas: any[] = state.replicas ?? [];
  const live = replicas.filter((it) => it.attached);
  const lags = live.map((it) => Number(it.lag ?? 0));
  return (
    <tr>
      <th scope="row">
        <a href={href("immortals", name)}>{name}</a>{" "}
        {state.paused === true && <Badge tone="warn">PAUSED</Badge>}
      </th>
      <td>{state.owner ?? <Badge tone="bad">NONE</Badge>}</td>
      <td class="number">{String(state.inputs ?? "–")}</td>
      <td>
        {replicas.map((it) => (
          <>
            <Badge tone={TONES[it.role] ?? "bad"}>{`${it.node} ${it.role}`}</Badge>{" "}
          </>
        ))}
      </td>
      <td class="number">{lags.length > 0 ? Math.max(...lags) : "–"}</td>
      <td>{(state.waitsFor ?? []).join(", ")}</td>
    </tr>
  );
}

export function Immortal({ name }: { name: string }) {
  useTitle(name);
  const path = pathOf(name);
  const asked = useAsk({ path }, 1_000);
  const explained = useAsk({ path: `${path}/explain` }, 2_000);
  const state = asked.answer?.body;
  return (
    <>
      <h1>
        <a href={href("immortals")}>Immortals</a> <span class="path">{name}</span>
      </h1>
      <Panel title="Replicas" asked={asked}>
        {state?.missing && <p class="bad-text">{String(state.missing)}</p>}
        {state && <Replicas state={state} path={path} />}
      </Panel>
      <Panel title="What it waits for" asked={explained}>
        {explained.answer && <Findings body={explained.answer.body} />}
      </Panel>
      {state && <Do state={state} path={path} />}
      {state && <Messages state={state} />}
      <Debug name={name} />
      {state && (
        <details class="panel">
          <summary>All that is known of it</summary>
          <Json value={state} />
        </details>
      )}
    </>
  );
}

function Replicas({ state, path }: { state: any; path: string }) {
  const replicas: any[] = state.replicas ?? [];
  const inputs = Number(state.inputs ?? 0);
  return (
    <>
      <dl class="facts">
        <div>
          <dt>Owner</dt>
          <dd>{state.owner ?? "none"}</dd>
        </div>
        <div>
          <dt>Inputs logged</dt>
          <dd>{String(state.inputs ?? "–")}</dd>
        </div>
        <div>
          <dt>Durability</dt>
          <dd>{state.durability}</dd>
        </div>
      </dl>
      <Table head={["Node", "Role", "Position", "Lag", "Checkpoint", "Log since", "Do"]}>
        {replicas.map((it) => (
          <tr key={it.node}>
            <th scope="row">
              {it.node} {!it.up && <Badge tone="bad">DOWN</Badge>}
            </th>
            <td>
              <Badge tone={TONES[it.role] ?? "bad"}>{it.role}</Badge>
            </td>
            <td class="number">
              <meter min={0} max={Math.max(1, inputs)} value={Number(it.done ?? 0)} />{" "}
              {String(it.done ?? "–")}
            </td>
            <td class="number">{String(it.lag ?? "–")}</td>
            <td>
              {it.checkpoint
                ? `input ${it.checkpoint.input}, ${bytes(Number(it.checkpoint.bytes))}`
                : "–"}
            </td>
            <td>{it.logBytes === undefined ? "–" : bytes(Number(it.logBytes))}</td>
            <td>
              {it.role === "STANDBY" && (
                <Action
                  label="Make it the primary"
                  ask={() => ({ method: "POST", path: `${path}/move`, body: { node: it.node } })}
                />
              )}
            </td>
          </tr>
        ))}
      </Table>
      {replicas.map((it) => (
        <Trouble replica={it} key={it.node} />
      ))}
    </>
  );
}

/** What is wrong with a copy, with what was expected of it and what it did. */
function Trouble({ replica }: { replica: any }) {
  const { node, held, diverged, letGo } = replica;
  return (
    <>
      {held && (
        <div class="problem">
          <strong>{node} is held</strong> at input {String(held.input)}, after {String(held.tries)}{" "}
          tries: {held.text}
          {held.message && <Json value={held.message} />}
        </div>
      )}
      {diverged && (
        <div class="problem">
          <strong>{node} has diverged</strong> at input {String(diverged.input)}
          {diverged.isLastCopy === true && " (it goes on, as no other has come as far)"}
          <dl class="facts">
            <div>
              <dt>Expected</dt>
              <dd>
                <code>{shown(diverged.expected)}</code>
              </dd>
            </div>
            <div>
              <dt>Found</dt>
              <dd>
                <code>{shown(diverged.found)}</code>
              </dd>
            </div>
          </dl>
        </div>
      )}
      {letGo && (
        <p class="quiet">
          {node}: the last program was let go: {letGo.code}, {letGo.text}
        </p>
      )}
    </>
  );
}

const shown = (value: unknown) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function Do({ state, path }: { state: any; path: string }) {
  const [input, setInput] = useState("");
  const replicas: any[] = state.replicas ?? [];
  const isInTrouble = replicas.some((it) => it.held || it.diverged);
  const post = (verb: string, body?: unknown) => ({ method: "POST", path: `${path}/${verb}`, body });
  return (
    <Panel title="Do">
      <div class="row">
        <Action label="Checkpoint" ask={() => post("checkpoint")} />
        <Action
          label={state.paused === true ? "Go on" : "Pause"}
          ask={() => ({ method: "PATCH", path, body: { paused: state.paused !== true } })}
        />
        <Action label="Release" ask={() => post("release")} disabled={!isInTrouble} />
      </div>
      <div class="row">
        <label>
          Input{" "}
          <input
            type="number"
            min={1}
            value={input}
            onInput={(event) => setInput(event.currentTarget.value)}
          />
        </label>
        <Action
          label="Skip it"
          kind="danger"
          confirm={`Input ${input} is never handled; all copies get a placeholder.`}
          disabled={!/^\d+$/.test(input)}
          ask={() => post("skip", `{"input":${input || 0}}`)}
        />
      </div>
      <Impulse path={path} />
    </Panel>
  );
}

function Impulse({ path }: { path: string }) {
  const [method, setMethod] = useState("1");
  const [payload, setPayload] = useState('["Hello"]');
  return (
    <details>
      <summary>Send it a message from outside</summary>
      <div class="row">
        <TextField label="Method (a number)" type="number" value={method} set={setMethod} />
        <TextField label="Payload, in JSON" value={payload} set={setPayload} />
      </div>
      <Action
        label="Send"
        disabled={!/^\d+$/.test(method) || payload.trim() === ""}
        ask={() => ({
          method: "POST",
          path: `${path}/impulses`,
          // As it was typed: no digit of it is lost.
          body: `{"method":${method},"payload":${payload}}`,
        })}
      />
    </details>
  );
}

function Messages({ state }: { state: any }) {
  const outputs: any[] = state.outputs ?? [];
  const senders: any[] = Array.isArray(state.senders) ? state.senders : [];
  return (
    <div class="columns">
      <Panel title="Sends to">
        <Table head={["To", "Said", "Confirmed", "Kept"]} empty="Nothing was sent.">
          {outputs.map((it) => (
            <tr>
              <th scope="row">
                <a href={href("immortals", String(it.to))}>{String(it.to)}</a>{" "}
                {it.registered === false && <Badge tone="warn">NOT REGISTERED</Badge>}
              </th>
              <td class="number">{String(it.said)}</td>
              <td class="number">{String(it.confirmed)}</td>
              <td>{bytes(Number(it.keptBytes ?? 0))}</td>
            </tr>
          ))}
        </Table>
      </Panel>
      <Panel title="Hears from">
        {senders.length === 0 ? <p class="quiet">Nobody so far.</p> : <Json value={senders} />}
      </Panel>
    </div>
  );
}

function Debug({ name }: { name: string }) {
  const cli = `amrita --address ${location.origin} immortal`;
  return (
    <Panel title="Time travel">
      <p>Give what was logged to a program under your debugger, and compare what it sends:</p>
      <p>
        <Copied text={`${cli} debug ${encoded(name)}`} />
      </p>
      <p>Or keep it in a file first, and debug elsewhere:</p>
      <p>
        <Copied text={`${cli} record ${encoded(name)} --to ${encoded(name)}.recording`} />
      </p>
      <p>
        <Copied text={`amrita immortal debug --recording ${encoded(name)}.recording`} />
      </p>
    </Panel>
  );
}
