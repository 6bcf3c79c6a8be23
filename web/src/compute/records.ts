/** Records as columns: reading a value, choosing rows, and groups made of imported records. No drawing. */
import type { Cell, Group, Index, TextColumn, Value } from "../types";

export type Records = Index["records"];

function isText(column: TextColumn | Value[]): column is TextColumn {
  return !Array.isArray(column);
}

/** The value of one record; null for none and for a column that is not there. */
export function read(records: Records, column: string, row: number): Value {
  const found = records.columns[column];
  if (found === undefined) return null;
  if (!isText(found)) return found[row] ?? null;
  return found.values[found.codes[row] ?? -1] ?? null;
}

export function readText(records: Records, column: string, row: number): string {
  const value = read(records, column, row);
  return value === null ? "" : String(value);
}

export function readNumber(records: Records, column: string, row: number): number | null {
  const value = read(records, column, row);
  return typeof value === "number" ? value : null;
}

/** Which values a text column has, in the order of the file. */
export function valuesOf(records: Records, column: string): string[] {
  const found = records.columns[column];
  if (found === undefined) return [];
  return isText(found) ? found.values : [...new Set(found.filter((each) => each !== null).map(String))];
}

/** Rows whose columns have one of the values that are asked for; a column without values asks for nothing. */
export function where(records: Records, asked: Record<string, readonly string[]>): number[] {
  const tests = Object.entries(asked)
    .filter(([, values]) => values.length > 0)
    .map(([name, values]) => tester(records, name, new Set(values)));
  const rows: number[] = [];
  for (let row = 0; row < records.count; row++) if (tests.every((test) => test(row))) rows.push(row);
  return rows;
}

function tester(records: Records, name: string, values: Set<string>): (row: number) => boolean {
  const column = records.columns[name];
  if (column === undefined) return () => false;
  if (!isText(column)) return (row) => values.has(String(column[row]));
  const allowed = column.values.map((each) => values.has(each)); // compare each distinct text once, not each record
  return (row) => allowed[column.codes[row] ?? -1] === true;
}

/** Groups of imported records by source, model and protocol: means over seeds, without intervals. */
export function importedGroups(records: Records): Group[] {
  const found = new Map<string, { group: Group; scores: Map<string, number[]> }>();
  const own = <T>(): Record<string, T> => Object.create(null) as Record<string, T>; // a method may be called __proto__
  for (let row = 0; row < records.count; row++) {
    const source = readText(records, "source", row);
    if (source === "" || source === "measured" || read(records, "group", row) !== null) continue;
    const [model, protocol, dataset, method] = ["model", "protocol", "dataset", "method"].map((name) =>
      readText(records, name, row),
    ) as [string, string, string, string];
    const id = JSON.stringify([source, model, protocol]);
    const entry = found.get(id) ?? { group: { ...emptyGroup(id, source, model, protocol), cells: own(), costs: own() }, scores: new Map() };
    found.set(id, entry);
    const { group, scores } = entry;
    const cell = ((group.cells[dataset] ??= own<Cell>())[method] ??= emptyCell());
    const score = readNumber(records, "score", row);
    const seed = readNumber(records, "seed", row);
    if (seed !== null && !group.seeds.includes(seed)) group.seeds.push(seed);
    if (score === null) {
      cell.failed.push(readText(records, "failure_reason", row) || "no score");
      continue;
    }
    const place = JSON.stringify([dataset, method]);
    const all = scores.get(place) ?? [];
    scores.set(place, all);
    all.push(score);
    cell.seeds = all.length;
    cell.estimate = mean(all);
    cell.sd = all.length > 1 ? deviation(all) : null;
    cell.rows = readNumber(records, "test_rows", row);
    const costs = (group.costs[method] ??= {});
    costs.trainable_params ??= readNumber(records, "trainable_params", row);
    costs.memory_bytes ??= readNumber(records, "train_peak_memory_bytes", row);
    costs.train_seconds ??= readNumber(records, "train_seconds", row);
    costs.adapter_bytes ??= readNumber(records, "adapter_bytes", row);
  }
  return [...found.values()].map(({ group }) => ({
    ...group,
    datasets: Object.keys(group.cells),
    methods: [...new Set(Object.values(group.cells).flatMap((cells) => Object.keys(cells)))],
  }));
}

function emptyGroup(id: string, source: string, model: string, protocol: string): Group {
  const words = "the numbers are imported, without test rows or draws";
  return {
    id, model, protocol, source, label: model, datasets: [], methods: [], seeds: [], cells: {}, refused: null,
    why_no_interval: words, draws: false, costs: {}, costs_of: {},
  };
}

function emptyCell(): Cell {
  return { estimate: null, low: null, high: null, seeds: 0, sd: null, rows: null, missing: [], failed: [] };
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let place = 0; place < values.length; place++) sum += values[place]!;
  return sum / values.length;
}

/** Standard deviation of a sample (n - 1). */
export function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, each) => sum + (each - middle) ** 2, 0) / (values.length - 1));
}
