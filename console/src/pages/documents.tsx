// Documents: the factories, the documents of one, page by page and by a filter, and new ones.
import { useState } from "preact/hooks";
import { type Ask, encoded, withParameters } from "../api";
import { useAsk } from "../ask";
import { pretty } from "../json";
import { type FieldOf, fieldsOf, isTask } from "../fields";
import { Filter } from "../filter";
import { go, href, hrefOf } from "../route";
import { Action, Badge, Field, Panel, Table, TextField, Time, useTitle } from "../ui";
import { type Draft, draftOf } from "../draft";

export function Factories() {
  useTitle("Documents");
  const asked = useAsk({ path: "/" });
  const links: string[] = asked.answer?.body?.documentLinks ?? [];
  const factories = links.filter((link) => link !== "/core/immortals");
  const isOwn = (link: string) => !link.startsWith("/core/");
  const groups: [string, string[]][] = [
    ["Kinds of your own", factories.filter(isOwn)],
    ["Kinds that are always there", factories.filter((link) => !isOwn(link))],
  ];
  return (
    <>
      <h1>Documents</h1>
      <Panel
        title="Factories"
        asked={asked}
        side={<a href={href("documents", "/core/factories", { tab: "new" })}>Define a kind</a>}
      >
        {groups.map(([name, some]) => some.length > 0 && (
          <>
            <h3>{name}</h3>
            <ul class="cards">
              {some.map((link) => (
                <Factory link={link} key={link} />
              ))}
            </ul>
          </>
        ))}
      </Panel>
      <Open />
    </>
  );
}

function Factory({ link }: { link: string }) {
  const counted = useAsk({ path: `${encoded(link)}?$count=true` });
  const template = useAsk({ path: `${encoded(link)}/template` });
  const description = template.answer?.body?.documentDescription;
  const refused = counted.failed && (
    <span class="quiet" title={counted.failed.message}>
      {counted.failed.code}
    </span>
  );
  return (
    <li>
      <a href={hrefOf(link)}>{link}</a>{" "}
      {isTask(template.answer?.body) && <Badge tone="calm">TASKS</Badge>}
      <span class="count">{counted.answer?.body?.documentCount ?? refused ?? "…"}</span>
      <p class="quiet">{description?.description}</p>
    </li>
  );
}

function Open() {
  const [link, setLink] = useState("");
  return (
    <Panel title="Go to a link">
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (link.startsWith("/")) go(hrefOf(link.trim()));
        }}
      >
        <input
          type="text"
          aria-label="Link"
          placeholder="/core/examples/one"
          value={link}
          onInput={(event) => setLink(event.currentTarget.value)}
        />
        <button type="submit" disabled={!link.startsWith("/")}>
          Show
        </button>
      </form>
    </Panel>
  );
}

const PAGE = 25;

export function Listing({ factory, parameters }: { factory: string; parameters: URLSearchParams }) {
  useTitle(factory);
  const template = useAsk({ path: `${encoded(factory)}/template` });
  const fields = fieldsOf(template.answer?.body);
  return (
    <>
      <h1>
        <a href={href("documents")}>Documents</a> <span class="path">{factory}</span>
      </h1>
      <p class="quiet">{template.answer?.body?.documentDescription?.description}</p>
      {parameters.get("tab") === "new" && template.answer && (
        <New factory={factory} template={template.answer.body} />
      )}
      <List factory={factory} fields={fields} parameters={parameters} />
      <About factory={factory} fields={fields} template={template.answer?.body} />
    </>
  );
}

function List(props: { factory: string; fields: FieldOf[]; parameters: URLSearchParams }) {
  const { factory, fields, parameters } = props;
  const [filter, setFilter] = useState(parameters.get("filter") ?? "");
  const [order, setOrder] = useState(parameters.get("orderby") ?? "");
  const [isDown, setDown] = useState(parameters.get("down") === "true");
  // The links of the pages before this one, so that one can go back.
  const [pages, setPages] = useState<string[]>([]);
  const used = {
    filter: parameters.get("filter") ?? "",
    orderby: parameters.get("orderby") ?? "",
    down: parameters.get("down") ?? "",
  };
  const first = withParameters(`${encoded(factory)}?expand`, {
    $limit: String(PAGE),
    $filter: used.filter,
    ...orderOf(used.orderby, used.down === "true", fields),
  });
  const asked = useAsk({ path: pages.at(-1) ?? first });
  const body = asked.answer?.body;
  // With $limit the first answer has only the way to the pages.
  const next: string | undefined = body?.nextPageLink;
  const links: string[] = body?.documentLinks ?? [];
  const search = (event?: Event) => {
    event?.preventDefault();
    setPages([]);
    const wanted = { filter, orderby: order, down: isDown && order ? "true" : "" };
    const to = href("documents", factory, wanted);
    if (to === location.hash) asked.again();
    else go(to);
  };
  return (
    <Panel
      title="Documents"
      asked={asked}
      side={<a class="button" href={href("documents", factory, { tab: "new" })}>New</a>}
    >
      <form class="row query" onSubmit={search} role="search">
        <Filter value={filter} fields={fields} change={setFilter} go={search} />
        <label>
          Order{" "}
          <select value={order} onChange={(event) => setOrder(event.currentTarget.value)}>
            <option value="">by link</option>
            {fields.map((field) => (
              <option value={field.name}>{field.name}</option>
            ))}
          </select>
        </label>
        <label>
          <input
            type="checkbox"
            checked={isDown}
            onChange={(event) => setDown(event.currentTarget.checked)}
          />{" "}
          downwards
        </label>
        <button type="submit" class="primary">
          Search
        </button>
      </form>
      <Table
        head={["Name", "Version", "Changed", "By", "State"]}
        empty={asked.isWaiting ? "" : "No document here."}
      >
        {links.map((link) => (
          <Row link={link} factory={factory} state={body.documents?.[link]} key={link} />
        ))}
      </Table>
      <p class="row pages">
        <button type="button" disabled={pages.length === 0} onClick={() => setPages(pages.slice(0, -1))}>
          ← Back
        </button>
        <span class="quiet">page {pages.length + 1}</span>
        <button
          type="button"
          disabled={!next}
          onClick={() => next && setPages([...pages, withExpand(next)])}
        >
          Next →
        </button>
      </p>
    </Panel>
  );
}

const withExpand = (link: string) => (/[?&]expand/.test(link) ? link : `${link}?expand`);

function orderOf(field: string, isDown: boolean, fields: FieldOf[]): Record<string, string> {
  if (!field) return {};
  const type = fields.find((it) => it.name === field)?.type ?? "";
  const isNumber = ["LONG", "DOUBLE", "INTEGER"].includes(type);
  return {
    $orderby: `${field} ${isDown ? "desc" : "asc"}`,
    $orderbytype: isNumber ? (type === "DOUBLE" ? "DOUBLE" : "LONG") : "STRING",
  };
}

function Row({ link, factory, state }: { link: string; factory: string; state: any }) {
  const name = link.startsWith(`${factory}/`) ? link.slice(factory.length + 1) : link;
  const own = Object.entries(state ?? {}).filter(([field]) => !/^document[A-Z]/.test(field));
  const text = own.map(([field, value]) => `${field}: ${flat(value)}`).join(" · ");
  return (
    <tr>
      <th scope="row">
        <a href={hrefOf(link)}>{name}</a>
      </th>
      <td>{String(state?.documentVersion ?? "")}</td>
      <td>
        <Time micros={state?.documentUpdateTimeMicros} />
      </td>
      <td>{state?.documentUpdateNode}</td>
      <td class="cut" title={text.slice(0, 500)}>
        {text.slice(0, 160)}
      </td>
    </tr>
  );
}

function flat(value: unknown): string {
  if (typeof value === "string") return value;
  return pretty(value).replace(/\s*\n\s*/g, " ");
}

function New({ factory, template }: { factory: string; template: any }) {
  const example = Object.fromEntries(
    Object.entries(template).filter(([name]) => !/^document[A-Z]/.test(name)),
  );
  const [name, setName] = useState("");
  const [draft, setDraft] = useState<Draft>(() => draftOf(pretty(example)));
  const ask = (): Ask => ({
    method: "POST",
    path: encoded(factory),
    body: name ? { ...draft.value, documentSelfLink: name } : draft.text,
  });
  return (
    <Panel title="New">
      <TextField label="Name (without one it gets a name)" value={name} set={setName} />
      <Field label="State, in JSON">
        <textarea
          rows={Math.min(20, draft.text.split("\n").length + 2)}
          spellcheck={false}
          value={draft.text}
          onInput={(event) => setDraft(draftOf(event.currentTarget.value))}
        />
      </Field>
      {draft.wrong && <p class="bad-text">{draft.wrong}</p>}
      <p class="row">
        <Action
          label="Make it"
          kind="primary"
          disabled={draft.wrong !== ""}
          ask={ask}
          done={(answer) => go(hrefOf(answer.body?.documentSelfLink ?? factory))}
        />
        <a href={href("documents", factory)}>Cancel</a>
      </p>
    </Panel>
  );
}

function About(props: { factory: string; fields: FieldOf[]; template: any }) {
  const { factory, fields, template } = props;
  const explained = useAsk({ path: `${encoded(factory)}/explain` });
  const description = template?.documentDescription;
  const stuck = explained.answer?.body?.findings?.filter((it: any) => it.remedy) ?? [];
  return (
    <details class="panel">
      <summary>
        Fields and limits{" "}
        {stuck.length > 0 && <Badge tone="bad">{`${stuck.length} in its way`}</Badge>}
      </summary>
      {stuck.map((it: any) => (
        <p class="bad-text">{it.text}</p>
      ))}
      <Table head={["Field", "Type", "What it is"]}>
        {fields.map((field) => (
          <tr>
            <th scope="row">
              <code>{field.name}</code>
            </th>
            <td>{field.type.toLowerCase()}</td>
            <td>{field.about}</td>
          </tr>
        ))}
      </Table>
      {description && (
        <p class="quiet">
          At most {String(description.serializedStateSizeLimit)} bytes a document;{" "}
          {String(description.versionRetentionLimit)} versions are kept, and{" "}
          {String(description.versionRetentionFloor)} when old ones go.
        </p>
      )}
    </details>
  );
}
