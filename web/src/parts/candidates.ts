/** Methods with performance and costs, for PSCP and the Pareto front: from the runs or from a table that came along. */
import { choose, methodTitle } from "../choice";
import type { Interval } from "../compute/standings";
import type { Cost, CostTable } from "../types";
import { usePage } from "./context";
import { useGroup } from "./group";

export interface Costed {
  method: string;
  title: string;
  performance: number;
  interval: Interval | null;
  draws: Float64Array | null;
  costs: Partial<Record<Cost, number | null>>;
}

export interface Costeds {
  /** Where the numbers are from, in words of the data. */
  from: string;
  methods: Costed[];
  /** Methods without a mean, and why. */
  refused: { method: string; why: string }[];
  table: CostTable | null;
  ready: boolean;
  /** Why the runs are not compared at all. */
  why: string | null;
}

/** What is looked at: `table` in the address names a table of costs, otherwise the runs that the filters leave. */
export function useCosted(): Costeds {
  const { index, route } = usePage();
  const { group } = choose(index, route.query);
  const table = index.tables.find((each) => each.name === route.query.table) ?? (group ? null : (index.tables[0] ?? null));
  const shown = useGroup(table ? undefined : group);
  const title = (method: string) => methodTitle(index, method);
  if (table) {
    const methods = table.methods.flatMap(({ method, performance, standard_error, ...costs }): Costed[] => {
      if (performance === null || method === "base") return [];
      const half = standard_error === null ? null : 1.96 * standard_error;
      const interval = half === null ? null : { low: performance - half, high: performance + half };
      return [{ method, title: title(method), performance, interval, draws: null, costs }];
    });
    return { from: table.title, methods, refused: [], table, ready: true, why: null };
  }
  return {
    from: group?.label ?? "",
    methods: shown.standings.flatMap(({ method, mean, interval, draws }) =>
      mean === null ? [] : [{ method, title: title(method), performance: mean, interval, draws, costs: (group && Object.hasOwn(group.costs, method) && group.costs[method]) || {} }],
    ),
    refused: shown.standings.flatMap(({ method, mean, missing }) =>
      mean === null ? [{ method, why: `${missing.length} of ${shown.datasets.length} missing` }] : [],
    ),
    table: null,
    ready: shown.draws !== undefined,
    why: group?.refused ?? (group ? null : "There is nothing to compare."),
  };
}
