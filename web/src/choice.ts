/** What is looked at: which group of comparable runs, which datasets and methods of it. Pure; read from the address. */
import { importedGroups, valuesOf } from "./compute/records";
import { sharedDatasets } from "./compute/standings";
import { list, type Query } from "./route";
import type { Group, Index } from "./types";

export const ALL = "*";

/** All groups: those that Python compared, then those of imported records. */
export function groupsOf(index: Index): Group[] {
  let found = cache.get(index);
  if (!found) {
    found = [...index.groups.map((each) => ({ ...each, source: each.source ?? "measured" })), ...importedGroups(index.records)];
    cache.set(index, found);
  }
  return found;
}
const cache = new WeakMap<Index, Group[]>();

export interface Options {
  value: string;
  options: string[];
}

export interface Choice {
  source: Options;
  model: Options;
  protocol: Options;
  /** Groups that source, model and protocol leave; more than one where they differ in something else. */
  groups: Group[];
  /** The one that is shown. */
  group: Group | undefined;
}

export function choose(index: Index, query: Query): Choice {
  let left = groupsOf(index);
  const pick = (name: "source" | "model" | "protocol", preferred: string): Options => {
    const options = [...new Set(left.map((each) => each[name] ?? ""))];
    const asked = query[name];
    const fallback = options.includes(preferred) ? preferred : (options[0] ?? "");
    const value = asked !== undefined && (options.includes(asked) || (asked === ALL && name === "model")) ? asked : fallback;
    if (value !== ALL) left = left.filter((each) => each[name] === value);
    return { value, options };
  };
  const source = pick("source", "measured");
  const model = pick("model", "");
  const protocol = pick("protocol", "corrected");
  return { source, model, protocol, groups: left, group: left.find((each) => each.id === query.group) ?? left[0] };
}

export interface Part {
  /** Datasets of the group that area and dataset filters leave. */
  asked: string[];
  /** Those that are compared: the same, or with `common` only those that all methods have. */
  datasets: string[];
  methods: string[];
}

/** The datasets and methods of a group that are looked at. */
export function partOf(index: Index, group: Group, query: Query): Part {
  const [areas, names, chosen] = [list(query.area), list(query.dataset), list(query.method)];
  const area = (name: string) => areaOf(index, name);
  const asked = group.datasets.filter(
    (each) => (areas.length === 0 || areas.includes(area(each))) && (names.length === 0 || names.includes(each)),
  );
  const known = group.methods.filter((each) => chosen.length === 0 || chosen.includes(each));
  const methods = known.length > 0 ? known : group.methods;
  return { asked, methods, datasets: query.common === "1" ? sharedDatasets(group, asked, methods) : asked };
}

export function areaOf(index: Index, dataset: string): string {
  return (Object.hasOwn(index.datasets, dataset) && index.datasets[dataset]?.area) || "other";
}

/** Titles and order of methods on the whole page. */
export function methodTitle(index: Index, name: string): string {
  return (Object.hasOwn(index.methods, name) && index.methods[name]?.title) || name;
}

export function methodOrder(index: Index): string[] {
  let found = orders.get(index);
  if (!found) {
    found = [...new Set([...Object.keys(index.methods), ...groupsOf(index).flatMap((each) => each.methods), ...valuesOf(index.records, "method")])];
    orders.set(index, found);
  }
  return found;
}
const orders = new WeakMap<Index, string[]>();
