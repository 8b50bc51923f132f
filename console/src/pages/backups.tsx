// Backups. A backup is written by `amrita backup`, as a browser keeps no folder of files; here is
// what it would have in it, and which were begun.
import { useState } from "preact/hooks";
import { encoded } from "../api";
import { useAsk } from "../ask";
import { Action, Copied, Panel, Table, Time, useTitle } from "../ui";
import { Records } from "./audit";

export function Backups() {
  useTitle("Backups");
  const cli = `amrita --address ${location.origin}`;
  return (
    <>
      <h1>Backups</h1>
      <Panel title="Write one">
        <p>All documents with their versions, users, tasks and immortals, as they are at one moment:</p>
        <p>
          <Copied text={`${cli} backup --to ./backup`} />
        </p>
        <p>Check one, and begin a new cluster with it:</p>
        <p>
          <Copied text="amrita backup verify ./backup" />
        </p>
        <p>
          <Copied text="amrita node --restore ./backup --id n1 --sandbox ./new" />
        </p>
      </Panel>
      <Try />
      <Begun />
    </>
  );
}

/** Begins a backup, to see that it can be begun and what is in it. */
function Try() {
  const [begun, setBegun] = useState<any>(null);
  return (
    <Panel title="Try whether one can be begun">
      <p class="quiet">
        It asks every group to hold what a backup would have. Nothing is written, and it ends by
        itself after a minute in which nobody reads it.
      </p>
      <Action
        label="Begin"
        ask={() => ({ method: "POST", path: "/core/backups" })}
        done={(answer) => setBegun(answer.body)}
      />
      {begun && (
        <>
          <p>
            Backup <code>{begun.backup}</code> of <Time micros={begun.atMicros} />: the logs were
            held for {String(Number(begun.heldMicros) / 1000)} ms.
          </p>
          <Table head={["Group", "What lives in it", "Position", "Term"]}>
            {begun.groups.map((group: any) => (
              <tr>
                <th scope="row">{String(group.group)}</th>
                <td>{whatLivesIn(group)}</td>
                <td class="number">{String(group.position)}</td>
                <td class="number">{String(group.term)}</td>
              </tr>
            ))}
          </Table>
          <p class="row">
            <Action
              label="End it"
              ask={() => ({ method: "DELETE", path: `/core/backups/${encoded(begun.backup)}` })}
              done={() => setBegun(null)}
            />
          </p>
        </>
      )}
    </Panel>
  );
}

function whatLivesIn(group: any): string {
  if (group.instance) return `the immortal ${group.instance}`;
  return Number(group.group) === 0 ? "the directory" : `partition ${group.group}`;
}

function Begun() {
  const who = useAsk({ path: "/core/authn/whoami" });
  const isOn = who.answer?.body?.isSecurityOn === true;
  if (!isOn) {
    return (
      <Panel title="Those that were begun">
        <p class="quiet">The audit trail would show them; it is kept where clients must log in.</p>
      </Panel>
    );
  }
  return <Records event="backup" title="Those that were begun" />;
}
