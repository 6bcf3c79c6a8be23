/** Means over datasets with completeness, intervals from bootstrap draws, and who cannot be told apart. No drawing. */
import type { Cell, DrawsFile, Group } from "../types";
import { mean } from "./records";

/** Draws of one dataset: `values[draw * methods.length + place]`. */
export interface Draws {
  replicates: number;
  cells: Record<string, { places: Map<string, number>; width: number; values: Float32Array }>;
}

export interface Interval {
  low: number;
  high: number;
}

export interface Standing {
  method: string;
  /** Mean over the datasets; null where a cell is missing: such a mean is refused. */
  mean: number | null;
  interval: Interval | null;
  /** Datasets that are missing or not complete. */
  missing: string[];
  /** 1 for the leader and all that cannot be told apart from it, 2 for the best of the rest and so on. */
  tier: number | null;
  /** Behind the leader of all, with the interval of the paired difference. */
  behind: ({ estimate: number } & Interval) | null;
  /** Mean over the datasets in each draw. */
  draws: Float64Array | null;
}

export function decodeDraws(file: DrawsFile): Draws {
  const cells: Draws["cells"] = {};
  for (const [dataset, { methods, values }] of Object.entries(file.cells)) {
    const text = atob(values);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    const view = new DataView(bytes.buffer);
    const numbers = new Float32Array(bytes.length / 4);
    for (let place = 0; place < numbers.length; place++) numbers[place] = view.getFloat32(4 * place, true);
    cells[dataset] = {
      places: new Map(methods.map((each, place) => [each, place])),
      width: methods.length,
      values: numbers,
    };
  }
  return { replicates: file.replicates, cells };
}

/** Percentiles by linear interpolation, as numpy.percentile; `values` in any order, not empty. */
export function percentiles(values: ArrayLike<number>, asked: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort();
  return asked.map((percent) => {
    const place = (percent / 100) * (sorted.length - 1);
    const below = Math.floor(place);
    const low = sorted[below]!;
    const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
    return low + (high - low) * (place - below);
  });
}

export function intervalOf(draws: ArrayLike<number>): Interval {
  const [low, high] = percentiles(draws, [2.5, 97.5]) as [number, number];
  return { low, high };
}

/** Whether all seeds of a method on a dataset are there and finished. */
export function isComplete(cell: Cell | undefined): cell is Cell & { estimate: number } {
  return cell !== undefined && cell.estimate !== null && cell.missing.length === 0 && cell.failed.length === 0;
}

export function cellOf(group: Group, dataset: string, method: string): Cell | undefined {
  const row = Object.hasOwn(group.cells, dataset) ? group.cells[dataset] : undefined;
  return row !== undefined && Object.hasOwn(row, method) ? row[method] : undefined;
}

/** Datasets that every one of the methods has, complete. */
export function sharedDatasets(group: Group, datasets: readonly string[], methods: readonly string[]): string[] {
  return datasets.filter((dataset) => methods.every((method) => isComplete(cellOf(group, dataset, method))));
}

/** Mean over datasets in each draw; null where one of them has none for the method. */
export function meanDraws(draws: Draws | null, datasets: readonly string[], method: string): Float64Array | null {
  if (draws === null || datasets.length === 0) return null;
  const sums = new Float64Array(draws.replicates);
  for (const dataset of datasets) {
    const found = Object.hasOwn(draws.cells, dataset) ? draws.cells[dataset] : undefined;
    const place = found?.places.get(method);
    if (found === undefined || place === undefined) return null;
    const { values, width } = found;
    for (let draw = 0; draw < sums.length; draw++) sums[draw]! += values[draw * width + place]!;
  }
  for (let draw = 0; draw < sums.length; draw++) sums[draw]! /= datasets.length;
  return sums;
}

/** Difference of two methods in each draw: both were drawn with the same rows. */
export function difference(first: Float64Array, second: Float64Array): Float64Array {
  return first.map((each, draw) => each - second[draw]!);
}

/** Methods from the best mean down; those whose mean is refused come last, in the order given. */
export function standings(
  group: Group,
  datasets: readonly string[],
  methods: readonly string[],
  draws: Draws | null,
): Standing[] {
  const found = methods.map((method): Standing => {
    const cells = datasets.map((dataset) => cellOf(group, dataset, method));
    const missing = datasets.filter((_, place) => !isComplete(cells[place]));
    const whole = missing.length === 0 && datasets.length > 0;
    const drawn = whole ? meanDraws(draws, datasets, method) : null;
    return {
      method,
      mean: whole ? mean(cells.map((cell) => cell!.estimate!)) : null,
      interval: drawn ? intervalOf(drawn) : whole && datasets.length === group.datasets.length ? intervalWithoutDraws(group, method) : null,
      missing,
      tier: null,
      behind: null,
      draws: drawn,
    };
  });
  found.sort((a, b) => (b.mean ?? -Infinity) - (a.mean ?? -Infinity) || 0);
  setTiers(found);
  return found;
}

/** What Python computed for all datasets of the group: there before the draws are, and where these are left out. */
function intervalWithoutDraws(group: Group, method: string): Interval | null {
  const found = group.means && Object.hasOwn(group.means, method) ? group.means[method] : undefined;
  return found && found.low !== null && found.high !== null ? { low: found.low, high: found.high } : null;
}

function setTiers(ordered: Standing[]): void {
  const best = ordered[0];
  if (best?.mean == null || best.draws === null) return;
  let waiting = ordered.filter((each) => each.mean !== null && each.draws !== null);
  for (const each of waiting) {
    if (each === best) continue;
    each.behind = { estimate: best.mean - each.mean!, ...intervalOf(difference(best.draws, each.draws!)) };
  }
  for (let tier = 1; waiting.length > 0; tier++) {
    const leader = waiting[0]!;
    waiting = waiting.filter((each) => {
      const apart = each === leader ? null : leader === best ? each.behind! : intervalOf(difference(leader.draws!, each.draws!));
      if (apart && (apart.low > 0 || apart.high < 0)) return true;
      each.tier = tier;
      return false;
    });
  }
}
