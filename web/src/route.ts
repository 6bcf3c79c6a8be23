/** The address after `#` is the whole state of the page: `#/view/part?name=value`. A link is a view. */
import { useEffect, useState } from "preact/hooks";

export type Query = Record<string, string>;

export interface Route {
  view: string;
  parts: string[];
  query: Query;
}

export function parse(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view = "", ...parts] = path.split("/").map(decode);
  return { view: view || "leaderboard", parts: parts.filter((each) => each !== ""), query: Object.fromEntries(new URLSearchParams(search)) };
}

export function format({ view, parts, query }: Route): string {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `#/${[view, ...parts].map(encodeURIComponent).join("/")}${search && `?${search.replaceAll("%2C", ",")}`}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a percent sign that someone typed
  }
}

/** What stays when one goes from view to view: which runs are looked at. */
const KEPT = ["source", "model", "protocol", "group", "area", "dataset", "method", "common", "theme"];

/** Address of another view, with the choice of runs of the present one. */
export function link(route: Route, view: string, parts: string[] = [], query: Query = {}): string {
  const kept = Object.fromEntries(Object.entries(route.query).filter(([name]) => KEPT.includes(name)));
  return format({ view, parts, query: { ...kept, ...query } });
}

/** Address of the same view with some of its state changed. */
export function changed(route: Route, query: Query): string {
  return format({ ...route, query: { ...route.query, ...query } });
}

/** Change the state: a step that "back" undoes, or with `replace` not, as while a slider moves. */
export function change(route: Route, query: Query, replace = false): void {
  const hash = changed(route, query);
  if (!replace) {
    location.hash = hash;
    return;
  }
  try {
    history.replaceState(null, "", hash);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } catch {
    location.replace(hash); // a browser that limits how often the history may be changed
  }
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const listen = () => setHash(location.hash);
    window.addEventListener("hashchange", listen);
    return () => window.removeEventListener("hashchange", listen);
  }, []);
  return parse(hash);
}

/** A list in the state: names separated by commas, each percent-encoded where it has one. */
export function list(text: string | undefined): string[] {
  return (text ?? "").split(",").filter((each) => each !== "").map(decode);
}

export function unlist(items: readonly string[]): string {
  return items.map((each) => each.replaceAll("%", "%25").replaceAll(",", "%2C")).join(",");
}
