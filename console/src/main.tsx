// The console: which page is shown, and what stands around it.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { needsLogin, security } from "./api";
import { useAsk } from "./ask";
import { addressOf, cluster, watchCluster } from "./cluster";
import { Login, Who } from "./login";
import { Access } from "./pages/access";
import { Audit } from "./pages/audit";
import { Backups } from "./pages/backups";
import { Document } from "./pages/document";
import { Factories, Listing } from "./pages/documents";
import { Feeds } from "./pages/feeds";
import { Immortal, Immortals } from "./pages/immortals";
import { Overview } from "./pages/overview";
import { Tasks } from "./pages/tasks";
import { type Route, go, href, useRoute } from "./route";
import { useStore } from "./store";
import { Panel } from "./ui";

/** Each page, its name, and the key that leads there after `g`. */
const PAGES: [id: string, name: string, key: string][] = [
  ["overview", "Overview", "o"],
  ["documents", "Documents", "d"],
  ["tasks", "Tasks", "t"],
  ["immortals", "Immortals", "i"],
  ["feeds", "Feeds", "f"],
  ["backups", "Backups", "b"],
  ["access", "Users", "u"],
  ["audit", "Audit", "a"],
];

function App() {
  const isStranger = useStore(needsLogin);
  const route = useRoute();
  const [isHelpOpen, setHelpOpen] = useState(false);
  useKeys(() => setHelpOpen((was) => !was));
  useEffect(watchCluster, []);
  if (isStranger) return <Login />;
  return (
    <>
      <a class="skip" href="#main" onClick={toMain}>
        To the content
      </a>
      <Head page={route.page || "overview"} help={() => setHelpOpen(true)} />
      <main id="main" tabIndex={-1}>
        <Away />
        <Page route={route} key={`${route.page}/${route.rest}`} />
      </main>
      {isHelpOpen && <Help close={() => setHelpOpen(false)} />}
    </>
  );
}

function toMain(event: Event) {
  // The part behind `#` is the page: it must not change.
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Page({ route }: { route: Route }) {
  const { page, rest, parameters } = route;
  switch (page) {
    case "":
    case "overview":
      return <Overview />;
    case "documents":
      return rest === "" ? <Factories /> : <AtLink link={`/${rest}`} parameters={parameters} />;
    case "tasks":
      return <Tasks />;
    case "immortals":
      return rest === "" ? <Immortals /> : <Immortal name={rest} />;
    case "feeds":
      return <Feeds parameters={parameters} />;
    case "backups":
      return <Backups />;
    case "access":
      return <Access />;
    case "audit":
      return <Audit />;
    default:
      return (
        <Panel title="There is no such page">
          <p>
            <a href={href("overview")}>To the overview</a>
          </p>
        </Panel>
      );
  }
}

/** A factory, or a document: the list of factories tells. */
function AtLink({ link, parameters }: { link: string; parameters: URLSearchParams }) {
  const root = useAsk({ path: "/" });
  const factories: string[] | undefined = root.answer?.body?.documentLinks;
  if (!factories) return <Panel asked={root} />;
  if (factories.includes(link)) return <Listing factory={link} parameters={parameters} />;
  return <Document link={link} parameters={parameters} />;
}

function Head({ page, help }: { page: string; help: () => void }) {
  const who = useAsk({ path: "/core/authn/whoami" });
  const body = who.answer?.body;
  useEffect(() => {
    if (body) security.set({ isOn: body.isSecurityOn === true });
    // Where logins are demanded, who may ask who it is has logged in.
  }, [body]);
  return (
    <header class="head">
      <a class="brand" href={href("overview")}>
        <img src="/core/console/icon.svg" alt="" width="22" height="22" /> Amrita
      </a>
      <nav aria-label="Pages">
        {PAGES.map(([id, name]) => (
          <a href={href(id)} aria-current={id === page ? "page" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <Health />
      <div class="tools">
        <Who user={body?.userLink ?? null} />
        <Theme />
        <button type="button" class="small plain" onClick={help} aria-label="Keys" title="Keys (?)">
          ?
        </button>
      </div>
    </header>
  );
}

function Health() {
  const { group, failed } = useStore(cluster);
  if (failed?.status === 0) return <a class="health bad" href={href("overview")}>no answer</a>;
  if (!group) return <span class="health">…</span>;
  const nodes: any[] = Object.values(group.nodes);
  const up = nodes.filter((node) => node.status === "AVAILABLE").length;
  const orphans = group.partitionOwners.filter((owner: unknown) => owner === null).length;
  const isBad = up < Number(group.membershipQuorum) || orphans > 0;
  const tone = isBad ? "bad" : up < nodes.length ? "warn" : "good";
  const text = orphans > 0 ? `${orphans} without owner` : `${up}/${nodes.length} nodes`;
  return (
    <a class={`health ${tone}`} href={href("overview")} title="Nodes that are up">
      {text}
    </a>
  );
}

/** Said while this node does not answer: its console cannot show anything then, but others can. */
function Away() {
  const { group, failed } = useStore(cluster);
  if (failed?.status !== 0) return null;
  const others: any[] = Object.values(group?.nodes ?? {});
  const elsewhere = others.map(addressOf).filter((it) => it && it !== location.origin);
  return (
    <div class="problem" role="alert">
      <strong>This node does not answer.</strong> What is shown is what it said last.{" "}
      {elsewhere.length > 0 && "The consoles of others: "}
      {elsewhere.map((address) => (
        <>
          <a href={`${address}/`} rel="noopener">
            {address}
          </a>{" "}
        </>
      ))}
    </div>
  );
}

const THEMES = ["auto", "light", "dark"];

function Theme() {
  const [theme, setTheme] = useState(() => localStorage.getItem("amrita-theme") ?? "auto");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("amrita-theme", theme);
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const signs: Record<string, string> = { auto: "◐", light: "☀", dark: "☾" };
  return (
    <button
      type="button"
      class="small plain"
      aria-label={`Colours: ${theme}; change to ${next}`}
      title={`Colours: ${theme}`}
      onClick={() => setTheme(next)}
    >
      {signs[theme] ?? "◐"}
    </button>
  );
}

/** `g` and a letter go to a page, `/` to the first field, `?` shows the keys. */
function useKeys(help: () => void) {
  useEffect(() => {
    let isAfterG = false;
    const pressed = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName);
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isAfterG) {
        isAfterG = false;
        const page = PAGES.find(([, , key]) => key === event.key);
        if (page) go(href(page[0]));
      } else if (event.key === "g") {
        isAfterG = true;
      } else if (event.key === "?") {
        help();
      } else if (event.key === "/") {
        const field = document.querySelector<HTMLElement>("main input[type=text]");
        if (field) {
          event.preventDefault();
          field.focus();
        }
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-label="Keys">
      <h2>Keys</h2>
      <dl class="keys">
        {PAGES.map(([, name, key]) => (
          <div>
            <dt>
              <kbd>g</kbd> <kbd>{key}</kbd>
            </dt>
            <dd>{name}</dd>
          </div>
        ))}
        <div>
          <dt>
            <kbd>/</kbd>
          </dt>
          <dd>to the first field</dd>
        </div>
        <div>
          <dt>
            <kbd>Ctrl</kbd> <kbd>Enter</kbd>
          </dt>
          <dd>save an edit</dd>
        </div>
        <div>
          <dt>
            <kbd>?</kbd>
          </dt>
          <dd>these keys</dd>
        </div>
      </dl>
      <form method="dialog">
        <button type="submit" class="primary">
          Close
        </button>
      </form>
    </dialog>
  );
}

const root = document.getElementById("app");
if (root) render(<App />, root);
