// The cluster at a glance: nodes, owners, quorum, lag, rates, and failovers as they happen.
import { useEffect, useRef, useState } from "preact/hooks";
import { type Ask, Failed, encoded, send } from "../api";
import { useAsk } from "../ask";
import { addressOf, cluster } from "../cluster";
import { type Figures, figuresOf, sum } from "../metrics";
import { useStore } from "../store";
import {
  Action, Badge, Copied, Findings, Panel, Problem, Table, type Tone, clock, lasting, useTitle,
} from "../ui";

const GROUP = "/core/node-groups/default";

export function Overview() {
  useTitle("Overview");
  const { group, failed } = useStore(cluster);
  return (
    <>
      <h1>Overview</h1>
      {failed && failed.status !== 0 && <Problem failed={failed} />}
      <State />
      {group && <Nodes group={group} />}
      {group && <Owners group={group} />}
      <div class="columns">
        <Rates />
        <Events />
      </div>
    </>
  );
}

function State() {
  const explained = useAsk({ path: `${GROUP}/explain` }, 2_000);
  const here = useAsk({ path: "/core/management/explain" }, 2_000);
  const about = useAsk({ path: "/core/management" });
  const { group } = useStore(cluster);
  const body = explained.answer?.body;
  const findings: any[] = [...(body?.findings ?? []), ...(here.answer?.body?.findings ?? [])];
  const seen = new Set<string>();
  const own = findings.filter((it) => !seen.has(it.text) && seen.add(it.text));
  const isStuck = Boolean(body?.isStuck || here.answer?.body?.isStuck);
  const nodes: any[] = Object.values(group?.nodes ?? {});
  const up = nodes.filter((node) => node.status === "AVAILABLE").length;
  const owners: unknown[] = group?.partitionOwners ?? [];
  const orphans = owners.filter((owner) => owner === null).length;
  const tone = (isBad: boolean): Tone => (isBad ? "bad" : "good");
  return (
    <Panel title="State" asked={explained}>
      <dl class="figures">
        <Figure name="Nodes up" value={`${up} of ${nodes.length}`} tone={tone(up < nodes.length)} />
        <Figure
          name="Membership quorum"
          value={group?.membershipQuorum ?? "–"}
          tone={tone(up < Number(group?.membershipQuorum ?? 0))}
        />
        <Figure
          name="Partitions owned"
          value={`${owners.length - orphans} of ${owners.length}`}
          tone={tone(orphans > 0)}
        />
        <Figure name="This node" value={about.answer?.body?.id ?? "–"} tone="calm" />
        <Figure name="Version" value={about.answer?.body?.version ?? "–"} tone="calm" />
      </dl>
      {body && (
        <>
          <h3 class={isStuck ? "bad-text" : ""}>
            {isStuck ? "Something is stuck" : "What it waits for"}
          </h3>
          <Findings body={{ findings: own }} />
        </>
      )}
    </Panel>
  );
}

function Figure(props: { name: string; value: string | number; tone: Tone }) {
  return (
    <div class={`figure ${props.tone}`}>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}

const TONES: Record<string, Tone> = { AVAILABLE: "good", UNAVAILABLE: "bad" };

function Nodes({ group }: { group: any }) {
  const nodes: any[] = Object.values(group.nodes);
  const all = group.partitionOwners.length;
  const isDown = (id: string) => group.nodes[id]?.status === "UNAVAILABLE";
  return (
    <Panel title="Nodes" side={<Quorum group={group} count={nodes.length} />}>
      <Table head={["Node", "Status", "Partitions", "Console", "Do"]}>
        {nodes.map((node) => (
          <tr key={node.id}>
            <th scope="row">
              <span class={`dot ${hueOf(node.id, group)}`} /> {node.id}
            </th>
            <td>
              <Badge tone={TONES[node.status] ?? "warn"}>{node.status}</Badge>{" "}
              {node.isDrained && <Badge tone="warn">DRAINED</Badge>}{" "}
              {node.isLeaving && <Badge tone="warn">LEAVING</Badge>}
            </td>
            <td>
              <meter min={0} max={all} value={Number(node.ownedPartitions)} /> {node.ownedPartitions}
            </td>
            <td>
              <a href={`${addressOf(node)}/`} rel="noopener">
                {addressOf(node).replace(/^https?:\/\//, "")}
              </a>
            </td>
            <td>
              <Action
                label={node.isDrained ? "Let it own again" : "Drain"}
                ask={() => patch(node.id, { isDrained: !node.isDrained })}
              />
              {isDown(node.id) && (
                <Action
                  label="Remove"
                  kind="danger"
                  confirm={`${node.id} will never come back with its data.`}
                  ask={() => ({ method: "DELETE", path: `${GROUP}/${encoded(node.id)}` })}
                />
              )}
            </td>
          </tr>
        ))}
      </Table>
      {group.asking.length > 0 && (
        <>
          <h3>Nodes that ask to join</h3>
          <Table head={["Node", "Address", "In place of", "Do"]}>
            {group.asking.map((node: any) => (
              <tr>
                <th scope="row">{node.id}</th>
                <td>{node.address}</td>
                <td>{node.replaces.join(", ") || "nobody"}</td>
                <td>
                  <Action label="Let in" kind="primary" ask={() => asking("POST", node)} />
                  <Action
                    label="Refuse"
                    kind="danger"
                    confirm="Its sandbox is refused from then on."
                    ask={() => asking("DELETE", node)}
                  />
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </Panel>
  );
}

function patch(id: string, body: object): Ask {
  return { method: "PATCH", path: `${GROUP}/${encoded(id)}`, body };
}

function asking(method: string, node: any): Ask {
  const address = encodeURIComponent(node.address);
  return { method, path: `${encoded(node.documentSelfLink)}?address=${address}` };
}

function Quorum({ group, count }: { group: any; count: number }) {
  const [wanted, setWanted] = useState("");
  const majority = Math.floor(count / 2) + 1;
  const choices = Array.from({ length: count - majority + 1 }, (_, at) => String(majority + at));
  const chosen = wanted || String(group.membershipQuorum);
  if (choices.length < 2) return null;
  return (
    <span class="row">
      <label>
        Quorum{" "}
        <select value={chosen} onChange={(event) => setWanted(event.currentTarget.value)}>
          {choices.map((choice) => (
            <option value={choice}>{choice}</option>
          ))}
        </select>
      </label>
      <Action
        label="Set"
        disabled={chosen === String(group.membershipQuorum)}
        ask={() => ({
          method: "PATCH",
          path: GROUP,
          body: { kind: "UpdateQuorumRequest", membershipQuorum: Number(chosen) },
        })}
      />
    </span>
  );
}

/** The same colour for the same node everywhere. */
function hueOf(id: string | null, group: any): string {
  const at = Object.keys(group.nodes).indexOf(id ?? "");
  return at < 0 ? "nobody" : `hue-${at % 6}`;
}

function Owners({ group }: { group: any }) {
  const lag = useLag(group.partitionOwners.length);
  const cells: [string, string | null][] = [
    ["directory", group.documentOwner],
    ...group.partitionOwners.map((owner: string | null, at: number) => [`${at + 1}`, owner]),
  ];
  return (
    <Panel
      title="Owners"
      side={
        <button type="button" class="small" onClick={lag.measure} disabled={lag.isMeasuring}>
          Measure this node's lag
        </button>
      }
    >
      <ol class="owners">
        {cells.map(([name, owner]) => (
          <li class={hueOf(owner, group)} key={`${name}-${owner}`}>
            <span class="quiet">{name}</span>
            <strong>{owner ?? "none"}</strong>
            {lag.found.has(name) && <small>{lag.found.get(name)}</small>}
          </li>
        ))}
      </ol>
      {lag.failed && <Problem failed={lag.failed} />}
    </Panel>
  );
}

/** How many names are tried at most until each partition has one. */
const NAMES_MAX = 200;

/**
 * How far this node's replica of each partition is behind the owner's. A read with
 * `consistency=local` tells it, also of a document that is not there, so one name in each
 * partition is enough.
 */
function useLag(partitions: number) {
  const names = useRef(new Map<string, string>());
  const [found, setFound] = useState(new Map<string, string>());
  const [failed, setFailed] = useState<Failed | null>(null);
  const [isMeasuring, setMeasuring] = useState(false);
  const measure = async () => {
    setMeasuring(true);
    setFailed(null);
    try {
      for (let n = 0; n < NAMES_MAX && names.current.size < partitions; n += 1) {
        const key = `/core/audit-ends/lag-${n}`;
        const path = "/core/node-selectors/default";
        const { body } = await send({ method: "POST", path, body: { key } });
        if (!names.current.has(String(body.partition))) {
          names.current.set(String(body.partition), key);
        }
      }
      const lags = new Map<string, string>();
      for (const [partition, key] of names.current) {
        const answer = await send({ path: `${key}?consistency=local` }).catch((error) => {
          if (error instanceof Failed && error.answer?.behind) return error.answer;
          throw error;
        });
        lags.set(partition, shownLag(answer.behind ?? ""));
      }
      setFound(lags);
    } catch (error) {
      setFailed(error instanceof Failed ? error : new Failed(0, "", String(error)));
    }
    setMeasuring(false);
  };
  return { found, failed, isMeasuring, measure };
}

export function shownLag(header: string): string {
  const [, entries = "?", ms = "?"] = /entries=(\S+), ms=(\S+)/.exec(header) ?? [];
  return entries === "0" ? `≤ ${ms} ms behind` : `${entries} changes, ${ms} ms behind`;
}

interface Sample {
  at: number;
  figures: Figures;
}

/** Two minutes, at one sample in two seconds. */
const SAMPLES_MAX = 60;

function Rates() {
  const asked = useAsk({ path: "/metrics" }, 2_000);
  const [samples, setSamples] = useState<Sample[]>([]);
  useEffect(() => {
    const text = asked.answer?.text;
    if (!text) return;
    const next = { at: performance.now(), figures: figuresOf(text) };
    setSamples((was) => [...was, next].slice(-SAMPLES_MAX));
  }, [asked.answer]);
  const last = samples.at(-1)?.figures;
  const rate = (name: string, isWanted?: (labels: Record<string, string>) => boolean) =>
    samples.slice(1).map((now, at) => {
      const before = samples[at];
      const grown = sum(now.figures, name, isWanted) - sum(before.figures, name, isWanted);
      return Math.max(0, grown / ((now.at - before.at) / 1000));
    });
  const isRead = (labels: Record<string, string>) => ["GET", "HEAD"].includes(labels.method);
  const reads = rate("amrita_requests_total", isRead);
  const writes = rate("amrita_requests_total", (labels) => !isRead(labels));
  const seconds = rate("amrita_request_seconds_sum");
  const counts = rate("amrita_request_seconds_count");
  const took = counts.map((count, at) => (count > 0 ? (seconds[at] / count) * 1000 : 0));
  const syncs = rate("amrita_log_sync_seconds_count");
  const gauge = (name: string) => (last ? String(sum(last, name)) : "–");
  return (
    <Panel title="Rates of this node" asked={asked}>
      <dl class="rates">
        <Spark name="Reads a second" values={reads} shown={(it) => it.toFixed(1)} />
        <Spark name="Writes a second" values={writes} shown={(it) => it.toFixed(1)} />
        <Spark name="Mean time of a request" values={took} shown={lasting} />
        <Spark name="Syncs of the log a second" values={syncs} shown={(it) => it.toFixed(1)} />
      </dl>
      <p class="quiet">
        Waiting for the node's thread: {gauge("amrita_queue_depth")} · connections:{" "}
        {gauge("amrita_connections")} · links to nodes: {gauge("amrita_links_up")} · programs:{" "}
        {gauge("amrita_programs")}. The console's own requests count, too.
      </p>
    </Panel>
  );
}

function Spark(props: { name: string; values: number[]; shown: (value: number) => string }) {
  const { name, values, shown } = props;
  const top = Math.max(...values, 1e-9);
  const step = 120 / (SAMPLES_MAX - 1);
  const start = 120 - (values.length - 1) * step;
  const points = values.map((it, at) => `${start + at * step},${30 - (it / top) * 28}`).join(" ");
  const last = values.at(-1);
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <svg viewBox="0 0 120 32" class="spark" aria-hidden="true" preserveAspectRatio="none">
          <polyline points={points} />
        </svg>
        <strong>{last === undefined ? "–" : shown(last)}</strong>
      </dd>
    </div>
  );
}

function Events() {
  const { events } = useStore(cluster);
  return (
    <Panel title="As it happens">
      <ol class="events" aria-live="polite">
        {events.length === 0 && <li class="quiet">Nothing has changed since this page is open.</li>}
        {events.map((event) => (
          <li key={`${event.at}${event.text}`}>
            <time>{clock(new Date(event.at))}</time>
            <span class={`${event.tone}-text`}>{event.text}</span>
          </li>
        ))}
      </ol>
      <details>
        <summary>Try it</summary>
        <p>
          Kill a node that owns something (<code>kill -9</code> with the process id that{" "}
          <code>amrita up</code> has shown), and look here. The same in a terminal:
        </p>
        <Copied text={`amrita --address ${location.origin} nodes`} />
      </details>
    </Panel>
  );
}
