// Where in the console somebody is: the part of the address behind `#`, so that links, bookmarks
// and the buttons of the browser work, and the node sees nothing of it.
import { useEffect, useState } from "preact/hooks";
import { encoded, withParameters } from "./api";

export interface Route {
  /** The page: the first part. */
  page: string;
  /** What follows it, decoded: the link of a document, the name of an instance. */
  rest: string;
  parameters: URLSearchParams;
}

export function routeNow(): Route {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  const decoded = rest.map((part) => decode(part)).join("/");
  return { page, rest: decoded, parameters: new URLSearchParams(query) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(routeNow);
  useEffect(() => {
    const moved = () => setRoute(routeNow());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return route;
}

/** The address of a page of the console. */
export function href(page: string, rest = "", parameters: Record<string, string> = {}): string {
  const tail = rest === "" ? "" : `/${encoded(rest.replace(/^\//, ""))}`;
  return withParameters(`#/${page}${tail}`, parameters);
}

export function go(to: string) {
  location.hash = to.replace(/^#/, "");
}

/** Where a link of the REST surface is shown. */
export function hrefOf(link: string): string {
  const [path, query = ""] = link.split("?");
  const version = new URLSearchParams(query).get("documentVersion");
  const instance = /^\/core\/immortals\/([^/]+)$/.exec(path);
  if (instance) return href("immortals", instance[1]);
  return version === null
    ? href("documents", path)
    : href("documents", path, { tab: "history", at: version });
}
