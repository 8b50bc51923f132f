// What the cluster looks like from this node, asked again and again while the console is open; and
// what has changed meanwhile, so that a failover is seen as it happens.
import { Failed, needsLogin, send } from "./api";
import { Store } from "./store";

const GROUP = "/core/node-groups/default";

/** The node answers this by itself, from what it knows; it costs no round between nodes. */
const EVERY_MS = 700;

/** So many events are kept; older ones are forgotten. */
const EVENTS_MAX = 200;

export interface Event {
  at: number;
  tone: "good" | "warn" | "bad" | "calm";
  text: string;
}

export interface Cluster {
  /** The last answer. */
  group: any;
  /** When it came. */
  at: number;
  failed: Failed | null;
  events: Event[];
}

export const cluster = new Store<Cluster>({ group: null, at: 0, failed: null, events: [] });

/** Since when a group has no owner, by its name. */
const ownerless = new Map<string, { since: number; was: string }>();

let isRunning = false;

/** Asks as long as the page is there. */
export function watchCluster() {
  if (isRunning) return;
  isRunning = true;
  const turn = async () => {
    if (!document.hidden && !needsLogin.now()) await look();
    setTimeout(turn, EVERY_MS);
  };
  void turn();
}

async function look() {
  const was = cluster.now();
  const at = Date.now();
  try {
    const { body } = await send({ path: GROUP }, AbortSignal.timeout(3_000));
    const news = [...changes(was, body, at)];
    const events = [...news.reverse(), ...was.events].slice(0, EVENTS_MAX);
    cluster.set({ group: body, at, failed: null, events });
  } catch (error) {
    const text = "this node has not answered for 3 s";
    const failed = error instanceof Failed ? error : new Failed(0, "NO_ANSWER", text);
    const isNew = was.failed === null && failed.status === 0 && was.group !== null;
    const lost: Event = { at, tone: "bad", text: "This node does not answer." };
    cluster.set({ ...was, failed, events: isNew ? [lost, ...was.events] : was.events });
  }
}

function* changes(was: Cluster, group: any, at: number): Iterable<Event> {
  const before = was.group;
  if (before === null) return;
  if (was.failed?.status === 0) yield { at, tone: "good", text: "This node answers again." };
  for (const id of new Set([...Object.keys(before.nodes), ...Object.keys(group.nodes)])) {
    const [old, now] = [before.nodes[id], group.nodes[id]];
    if (!old) yield { at, tone: "calm", text: `${id} has come to the cluster.` };
    else if (!now) yield { at, tone: "warn", text: `${id} belongs to the cluster no more.` };
    else {
      if (old.status !== now.status) {
        const tone = { AVAILABLE: "good", UNAVAILABLE: "bad" }[now.status as string] ?? "warn";
        yield { at, tone: tone as Event["tone"], text: `${id} is ${now.status}.` };
      }
      if (old.isDrained !== now.isDrained) {
        const text = now.isDrained ? `${id} hands over all it owns.` : `${id} may own again.`;
        yield { at, tone: "calm", text };
      }
    }
  }
  if (before.membershipQuorum !== group.membershipQuorum) {
    yield { at, tone: "warn", text: `The membership quorum is ${group.membershipQuorum}.` };
  }
  yield* moved("the directory", before.documentOwner, group.documentOwner, at);
  for (const [number, owner] of (group.partitionOwners as (string | null)[]).entries()) {
    yield* moved(`partition ${number + 1}`, before.partitionOwners[number], owner, at);
  }
}

function* moved(
  name: string,
  was: string | null | undefined,
  owner: string | null,
  at: number,
): Iterable<Event> {
  if (was === owner || was === undefined) return;
  if (owner === null) {
    ownerless.set(name, { since: at, was: was ?? "" });
    yield { at, tone: "bad", text: `${name} has no owner; it was ${was}.` };
    return;
  }
  const gap = ownerless.get(name);
  ownerless.delete(name);
  const from = gap?.was ?? was ?? "nobody";
  const seconds = gap ? `, after ${((at - gap.since) / 1000).toFixed(1)} s without an owner` : "";
  yield { at, tone: "good", text: `${name}: ${from} → ${owner}${seconds}.` };
}

/** A node's address, so that its own console can be opened. */
export function addressOf(node: any): string {
  return String(node?.groupReference ?? "").replace(/\/core\/.*$/, "");
}
