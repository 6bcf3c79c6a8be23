/** Rates of records by group, method and dataset, such as the invalid rate: read once, then averaged at will. Pure. */
import { mean, read, readNumber, readText, type Records } from "./records";

type Rates = Map<string, Map<string, Map<string, number[]>>>;

/** Name of a method as its group calls it. */
export function labelOf(records: Records, row: number): string {
  return readText(records, "label", row) || readText(records, "method", row);
}

export function ratesOf(records: Records, column: string): Rates {
  const found: Rates = new Map();
  for (let row = 0; row < records.count; row++) {
    const value = readNumber(records, column, row);
    const group = read(records, "group", row);
    if (value === null || group === null) continue;
    const methods = getOr(found, String(group), () => new Map<string, Map<string, number[]>>());
    const datasets = getOr(methods, labelOf(records, row), () => new Map<string, number[]>());
    getOr(datasets, readText(records, "dataset", row), () => []).push(value);
  }
  return found;
}

/** Mean over datasets of the mean over seeds, on those datasets that have one; null without any. */
export function meanRate(rates: Rates, group: string, method: string, datasets: readonly string[]): number | null {
  const cells = rates.get(group)?.get(method);
  const means = datasets.flatMap((each) => (cells?.has(each) ? [mean(cells.get(each)!)] : []));
  return means.length > 0 ? mean(means) : null;
}

function getOr<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
