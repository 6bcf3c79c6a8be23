// The page's arithmetic against numpy and the Python package (golden.json, written by dev/golden.py) and the paper.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { frontShares, onFront } from "../src/compute/pareto";
import { countVerdicts, differs, pairUp } from "../src/compute/pairs";
import { PENALISED, pscp, sensitivity, weight, winShares, type Candidate, type CostModel, type Penalised } from "../src/compute/pscp";
import { decodeDraws, intervalOf, meanDraws, percentiles, sharedDatasets, standings } from "../src/compute/standings";
import { meanRate, ratesOf } from "../src/compute/rates";
import { importedGroups, read, valuesOf, where } from "../src/compute/records";
import type { Cell, Group, Prediction } from "../src/types";

const read_ = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const golden = read_("./golden.json");
const paper = read_("../../tests/golden/pscp.json");

const close = (found: number, expected: number, relative = 1e-12) =>
  expect(Math.abs(found - expected)).toBeLessThanOrEqual(relative * Math.max(1e-300, Math.abs(expected)));
const named = (values: number[]) => Object.fromEntries(PENALISED.map((name, place) => [name, values[place]])) as Record<Penalised, number>;

describe("percentiles", () => {
  it("equal numpy's", () => {
    for (const { values, asked, expected } of golden.percentiles)
      percentiles(values, asked).forEach((each, place) => close(each, expected[place], 1e-12));
  });
});

describe("PSCP", () => {
  it("equals the package's to 1e-12", () => {
    for (const each of golden.pscp) {
      const model = { references: named(each.references), exponents: named(each.exponents) };
      close(pscp({ method: "", performance: each.performance, costs: named(each.costs), draws: null }, model), each.expected);
    }
  });
  it("equals every printed table of the paper to its two digits", () => {
    let count = 0;
    for (const table of paper.tables)
      for (const [method, row] of Object.entries<number[]>(table.rows)) {
        const { performance, params, tflops, memory_gb } = paper.costs[method];
        const model = { references: named([5e8, 1e13, 94e9]), exponents: named(table.importances) };
        const costs = named([params, (tflops - paper.base_tflops) * 1e12, memory_gb * 1e9]);
        expect(Math.abs(pscp({ method, performance, costs, draws: null }, model) - row[3]!)).toBeLessThan(0.00501);
        count++;
      }
    expect(count).toBe(66);
  });
  it("does not ask for a cost of importance 0", () => {
    const model = { references: named([1, 1, 1]), exponents: named([0, 1, 1]) };
    expect(weight({ trainable_params: null, flops: 1, memory_bytes: 0 }, model)).toBe(0.5);
    expect(weight({ trainable_params: null, flops: 1, memory_bytes: null }, model)).toBeNaN();
  });
  it("has the package's map and win shares", () => {
    const model: CostModel = { references: named([5e8, 1e13, 94e9]), exponents: named([1, 1, 1]) };
    const candidates: Candidate[] = golden.map.candidates.map((each: { costs: number[]; draws: number[] }) => ({ ...each, costs: named(each.costs), draws: Float64Array.from(each.draws) }));
    const points = sensitivity(candidates, model, "trainable_params", "memory_bytes", golden.map.values);
    expect(points.map((each) => each.winner)).toEqual(golden.map.winner);
    expect(points.map((each) => each.sure)).toEqual(golden.map.sure);
    expect(winShares(candidates, candidates.map((each) => weight(each.costs, model)))).toEqual(golden.map.shares);
    expect(new Set(golden.map.winner).size).toBeGreaterThan(1); // otherwise the test would say little
  });
});

describe("Pareto front", () => {
  it("is what pairwise domination says, on random points with ties", () => {
    let state = 1;
    const random = () => (state = (state * 48271) % 2147483647) % 6;
    for (let trial = 0; trial < 300; trial++) {
      const points = Array.from({ length: 7 }, () => ({ cost: random(), score: random() }));
      const beaten = points.map((a) => points.some((b) => b.cost <= a.cost && b.score >= a.score && (b.cost < a.cost || b.score > a.score)));
      expect(onFront(points)).toEqual(beaten.map((each) => !each));
    }
  });
  it("counts draws", () => {
    expect(frontShares([1, 2], [Float64Array.of(5, 5), Float64Array.of(6, 4)])).toEqual([1, 0.5]);
    expect(frontShares([1, 2], [Float64Array.of(5, 5), null])).toBeNull();
  });
});

const cell = (estimate: number | null, more: Partial<Cell> = {}): Cell => ({ estimate, low: null, high: null, seeds: 3, sd: 1, rows: 9, missing: [], failed: [], ...more });
const group = (cells: Group["cells"], methods: string[]): Group => ({
  id: "g", model: "m", label: "m", protocol: "corrected", datasets: Object.keys(cells), methods, seeds: [1], cells, why_no_interval: null, refused: null, draws: true, costs: {}, costs_of: {},
});

describe("means", () => {
  const { file, expected } = golden.means;
  const draws = decodeDraws(file);
  it("over any datasets have numpy's intervals, and so have paired differences", () => {
    for (const [chosen, { intervals, "behind lora": behind }] of Object.entries<{ intervals: number[][]; "behind lora": number[][] }>(expected)) {
      const datasets = chosen.split(",");
      const methods: string[] = file.cells.rte.methods;
      methods.forEach((method, place) => {
        const { low, high } = intervalOf(meanDraws(draws, datasets, method)!);
        close(low, intervals[place]![0]!, 1e-12);
        close(high, intervals[place]![1]!, 1e-12);
      });
      const cells = Object.fromEntries(datasets.map((name) => [name, { base: cell(60), lora: cell(69), ia3: cell(68.9), ln_tuning: cell(64) }]));
      const found = standings(group(cells, methods), datasets, methods, draws);
      expect(found.map((each) => each.method)).toEqual(["lora", "ia3", "ln_tuning", "base"]);
      for (const each of found.slice(1)) {
        close(each.behind!.low, behind[methods.indexOf(each.method)]![0]!, 1e-9);
        const holds0 = behind[methods.indexOf(each.method)]![0]! <= 0;
        expect(each.tier === 1).toBe(holds0);
      }
    }
  });
  it("over a missing, partly missing or failed cell are refused", () => {
    const cells = { rte: { a: cell(50), b: cell(90), c: cell(70, { failed: ["seed 7: out_of_memory"] }), d: cell(10) }, cola: { a: cell(60), c: cell(70), d: cell(10, { missing: ["seed 1"] }) } };
    const found = standings(group(cells, ["a", "b", "c", "d"]), ["rte", "cola"], ["a", "b", "c", "d"], null);
    expect(found.map((each) => [each.method, each.mean, each.missing])).toEqual([["a", 55, []], ["b", null, ["cola"]], ["c", null, ["rte"]], ["d", null, ["cola"]]]);
    expect(sharedDatasets(group(cells, ["a", "b"]), ["rte", "cola"], ["a", "b"])).toEqual(["rte"]);
    expect(found.every((each) => each.interval === null && each.tier === null)).toBe(true);
  });
  it("of no dataset are refused too", () => {
    expect(standings(group({}, ["a"]), [], ["a"], null)[0]!.mean).toBeNull();
  });
  it("are not taken from draws that lack a dataset", () => {
    expect(meanDraws(draws, ["rte", "elsewhere"], "lora")).toBeNull();
    expect(meanDraws(draws, ["constructor"], "lora")).toBeNull();
  });
});

describe("records", () => {
  const records = {
    count: 4,
    columns: {
      model: { values: ["m", "n"], codes: [0, 0, 1, -1] }, method: { values: ["a", "__proto__"], codes: [0, 1, 0, 0] }, dataset: { values: ["rte"], codes: [0, 0, 0, 0] },
      protocol: { values: ["published"], codes: [0, 0, 0, 0] }, source: { values: ["paper", "measured"], codes: [0, 0, 0, 1] }, group: { values: ["g"], codes: [-1, -1, -1, 0] },
      score: [40, 50, null, 70], invalid_rate: [null, null, null, 0.25], seed: [1, 1, 1, 2],
    },
  };
  it("are read by column, and none is null", () => {
    expect(read(records, "model", 3)).toBeNull();
    expect(read(records, "absent", 0)).toBeNull();
    expect(valuesOf(records, "model")).toEqual(["m", "n"]);
  });
  it("are chosen by all that is asked", () => {
    expect(where(records, { model: ["m"], method: ["a"] })).toEqual([0]);
    expect(where(records, { model: [], seed: ["1"] })).toEqual([0, 1, 2]);
    expect(where(records, { nothing: ["x"] })).toEqual([]);
  });
  it("that are imported make groups, whatever their names", () => {
    const [first, second] = importedGroups(records);
    expect(first!.methods).toEqual(["a", "__proto__"]);
    expect(first!.cells.rte!["__proto__"]!.estimate).toBe(50);
    expect(second!.cells.rte!.a!.failed).toEqual(["no score"]);
    expect(({} as Record<string, unknown>).estimate).toBeUndefined();
  });
  it("have rates by group, method and dataset", () => {
    expect(meanRate(ratesOf(records, "invalid_rate"), "g", "a", ["rte", "cola"])).toBe(0.25);
    expect(meanRate(ratesOf(records, "invalid_rate"), "g", "b", ["rte"])).toBeNull();
  });
});

describe("two runs", () => {
  const row = (id: number, right: boolean | null, text = "x"): Prediction => ({ id, right, text, prompt: null, references: [], score: null, valid: true });
  it("are matched by row and counted", () => {
    const { pairs, alone } = pairUp([row(1, true), row(2, false), row(3, true), row(4, null, "p"), row(9, true)], [row(3, false), row(2, false), row(1, true), row(4, null, "q")]);
    expect(alone).toBe(1);
    expect(countVerdicts(pairs)).toEqual({ "both right": 1, "only first": 1, "only second": 0, "both wrong": 1, unknown: 1 });
    expect(pairs.filter(differs).map((each) => each.first.id)).toEqual([3, 4]);
  });
});
