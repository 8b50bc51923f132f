// The audit trail: what was done, what was refused, and by whom.
import { useState } from "preact/hooks";
import { withParameters } from "../api";
import { useAsk } from "../ask";
import { Badge, Copied, Link, Panel, Table, Time, type Tone, useTitle } from "../ui";

const EVENTS = ["", "login", "refused", "rights", "members", "stop", "recording", "instance", "backup"];
const SHOWN = 50;

export function Audit() {
  useTitle("Audit");
  const [event, setEvent] = useState("");
  const who = useAsk({ path: "/core/authn/whoami" });
  const isOff = who.answer?.body?.isSecurityOn === false;
  return (
    <>
      <h1>Audit</h1>
      {isOff && (
        <p class="quiet">
          Nobody has to log in here, so no trail is kept (<code>--auth</code>).
        </p>
      )}
      <p class="row">
        <label>
          Event{" "}
          <select value={event} onChange={(change) => setEvent(change.currentTarget.value)}>
            {EVENTS.map((it) => (
              <option value={it}>{it === "" ? "all" : it}</option>
            ))}
          </select>
        </label>
      </p>
      <Records event={event} title={`The newest ${SHOWN}`} key={event} />
      <Panel title="Is it whole?">
        <p>Whether a record was changed or taken out, a terminal tells: it reads the whole trail.</p>
        <Copied text={`amrita --address ${location.origin} audit --verify`} />
      </Panel>
    </>
  );
}

export function Records({ event, title }: { event: string; title: string }) {
  const path = withParameters("/core/audit?expand", {
    $orderby: "at desc",
    $orderbytype: "LONG",
    $top: String(SHOWN),
    $filter: event ? `event eq '${event}'` : "",
  });
  const asked = useAsk({ path }, 3_000);
  const body = asked.answer?.body;
  const links: string[] = body?.documentLinks ?? [];
  return (
    <Panel title={title} asked={asked}>
      <Table
        head={["When", "Who", "What", "Request", "Answer", "From", "Record"]}
        empty={asked.isWaiting ? "" : "Nothing is recorded."}
      >
        {links.map((link) => (
          <Record link={link} record={body.documents[link]} key={link} />
        ))}
      </Table>
    </Panel>
  );
}

function toneOf(status: number): Tone {
  if (status >= 400) return "bad";
  return status === 202 ? "calm" : "good";
}

function Record({ link, record }: { link: string; record: any }) {
  return (
    <tr>
      <td>
        <Time micros={record.at} />
      </td>
      <th scope="row">{String(record.who).split("/").at(-1)}</th>
      <td>{record.event}</td>
      <td>
        {record.verb} <code>{record.link}</code> {record.note && <span class="quiet">{record.note}</span>}
      </td>
      <td>
        <Badge tone={toneOf(Number(record.status))}>{String(record.status)}</Badge>
      </td>
      <td>{record.address}</td>
      <td>
        <Link to={link}>{`${record.node} ${record.sequence}`}</Link>
      </td>
    </tr>
  );
}
