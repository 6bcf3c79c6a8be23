/** PSCP with live importances and references, what costs take from each method, and which method wins where. */
import { axisX, axisY, dot, link as linkMark, rect, text } from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { choose, methodOrder } from "../choice";
import { PENALISED, penalty, sensitivity, weight, winShares, type Candidate, type CostModel, type MapPoint, type Penalised } from "../compute/pscp";
import { amount, brief, COST_TITLES, fixed, percent, unitFor } from "../numbers";
import { useCosted, type Costed } from "../parts/candidates";
import { usePage } from "../parts/context";
import { Figure } from "../parts/figure";
import { Filters, Select } from "../parts/filters";
import { useLater } from "../parts/later";
import { Table, type Column } from "../parts/table";
import { Name, Notice, Prose, Words } from "../parts/text";
import { change, link, type Query } from "../route";
import { listed, short } from "../text";
import { looksOf } from "../theme";
import { erratumTitle } from "./errata";
import { Dot } from "./leaderboard";

const MOST_EXPONENT = 4;
const GRID = Array.from({ length: 33 }, (_, place) => (place * MOST_EXPONENT) / 32);
const SHORT: Record<Penalised, string> = { trainable_params: "parameters", flops: "FLOPs", memory_bytes: "memory" };

/** The cost model of the address; what it does not say is as in the paper. */
function modelOf(query: Query, defaults: CostModel): CostModel {
  const number = (text: string | undefined, fallback: number, least: number) => {
    const value = Number.parseFloat(text ?? "");
    return Number.isFinite(value) && value >= least ? value : fallback;
  };
  const each = (kind: "b" | "c", of: Record<Penalised, number>, least: number) =>
    Object.fromEntries(PENALISED.map((name) => [name, number(query[`${kind}.${name}`], of[name], least)])) as Record<Penalised, number>;
  return { references: each("c", defaults.references, 1e-300), exponents: each("b", defaults.exponents, 0) };
}

export function Pscp() {
  const { index, route } = usePage();
  const { from, methods, refused, table, ready, why } = useCosted();
  const { group } = choose(index, route.query);
  const defaults = index.penalty as CostModel;
  const model = modelOf(route.query, defaults);
  // A cost of importance 0 does not count, so that it need not be known.
  const needed = PENALISED.filter((name) => model.exponents[name] > 0);
  const lacks = (each: Costed) => needed.filter((name) => typeof each.costs[name] !== "number");
  const known = methods.filter((each) => each.method !== "base" && lacks(each).length === 0);
  const unknown = methods.filter((each) => each.method !== "base" && !known.includes(each));
  const left = [...unknown.map((each) => `${each.title} (${listed(lacks(each).map((name) => SHORT[name]))} unknown)`), ...refused.map((each) => `${each.method} (${each.why})`)];
  return (
    <>
      <h1>Performance under the cost of training: PSCP</h1>
      <p>
        The mean score times one penalty for each cost, <code>(1 + cost / reference)</code> to the power of minus its importance. A cost as large as
        its reference halves the score at importance 1. Both are choices: move them and see whether the order holds.
      </p>
      <Filters off={table !== null}>
        {index.tables.length > 0 && (
          <Select label="Numbers from" of={{ value: table?.name ?? "", options: [...(group ? [""] : []), ...index.tables.map((each) => each.name)] }}
            title={(name) => index.tables.find((each) => each.name === name)?.title ?? "the runs"} set={(name) => change(route, { table: name })} />
        )}
      </Filters>
      {table && <p class="detail"><Prose text={table.source} />.{table.errata.length > 0 && <> See <ErrataLinks ids={table.errata} />.</>}</p>}
      <Sliders model={model} defaults={defaults} known={known} />
      {why && <Notice kind="warning"><Prose text={why} /></Notice>}
      {left.length > 0 && (
        <Notice>
          Left out: <Words text={listed(left, 12)} />.{" "}
          {[...new Set(unknown.flatMap(lacks))].map((name) => (
            <button key={name} type="button" class="quiet" onClick={() => change(route, { [`b.${name}`]: "0" })}>Do not count {SHORT[name]}</button>
          ))}
        </Notice>
      )}
      {!ready ? <p class="none">Reading …</p> : known.length === 0 ? <p class="none">No method has a mean and all three costs.</p>
        : <Results from={from} known={known} model={model} />}
    </>
  );
}

export function ErrataLinks({ ids }: { ids: string[] }) {
  const { index, route } = usePage();
  return <>{ids.map((id, place) => <span key={id}>{place > 0 && ", "}<a href={link(route, "errata", [id])}>erratum: <Words text={short(erratumTitle(index, id), 60)} /></a></span>)}</>;
}

function Sliders({ model, defaults, known }: { model: CostModel; defaults: CostModel; known: Costed[] }) {
  const { route } = usePage();
  const set = (kind: "b" | "c", name: Penalised, value: number, normal: number) =>
    change(route, { [`${kind}.${name}`]: value === normal ? "" : String(Number(value.toPrecision(6))) }, true);
  const medians = () => {
    const query: Query = {};
    for (const name of PENALISED) {
      const costs = known.flatMap((each) => (typeof each.costs[name] === "number" ? [Math.max(0, each.costs[name])] : [])).sort((a, b) => a - b);
      if (costs.length === 0) continue;
      const half = costs.length / 2;
      const middle = (costs[Math.ceil(half) - 1]! + costs[Math.floor(half)]!) / 2;
      if (middle > 0) query[`c.${name}`] = String(Number(middle.toPrecision(6)));
    }
    change(route, query);
  };
  const reset = () => change(route, Object.fromEntries(PENALISED.flatMap((name) => [[`b.${name}`, ""], [`c.${name}`, ""]])));
  return (
    <>
      <div class="sliders">
        {PENALISED.map((name) => {
          const unit = unitFor(COST_TITLES[name].kind, [model.references[name]]);
          const normal = Math.log10(defaults.references[name]);
          const here = Math.log10(model.references[name]);
          return (
            <fieldset key={name}>
              <legend>{COST_TITLES[name].title}</legend>
              <label>importance
                <input type="range" min={0} max={MOST_EXPONENT} step={0.05} value={model.exponents[name]} aria-valuetext={`importance ${model.exponents[name]}`}
                  onInput={(event) => set("b", name, Number(event.currentTarget.value), defaults.exponents[name])} />
                <output>{fixed(model.exponents[name], 2)}</output>
              </label>
              <label>reference
                <input type="range" min={Math.min(normal - 5, here)} max={Math.max(normal + 2, here)} step={0.02} value={here} aria-valuetext={`reference ${amount(model.references[name], unit)} ${unit.name}`}
                  onInput={(event) => {
                    const log = Number(event.currentTarget.value);
                    set("c", name, Math.abs(log - normal) < 0.011 ? defaults.references[name] : 10 ** log, defaults.references[name]);
                  }} />
                <output>{unit.name === "" ? brief(model.references[name]) : `${amount(model.references[name], unit)} ${unit.name}`}</output>
              </label>
            </fieldset>
          );
        })}
      </div>
      <div class="filters">
        <button type="button" class="quiet" onClick={reset}>As in the paper</button>
        <button type="button" class="quiet" onClick={medians} disabled={known.length === 0} title="The median of these methods' costs: for models so small that the paper's references penalise nothing">References: medians of these methods</button>
      </div>
    </>
  );
}

interface Row extends Costed {
  score: number;
  weight: number;
  wins: number | null;
}

function Results({ from, known, model }: { from: string; known: Costed[]; model: CostModel }) {
  const { index, route, colours } = usePage();
  const order = methodOrder(index);
  const candidates: Candidate[] = known.map(({ method, performance, costs, draws }) => ({ method, performance, costs: { trainable_params: costs.trainable_params ?? null, flops: costs.flops ?? null, memory_bytes: costs.memory_bytes ?? null }, draws }));
  const weights = candidates.map((each) => weight(each.costs, model));
  const wins = winShares(candidates, weights);
  const rows: Row[] = known.map((each, place) => ({ ...each, weight: weights[place]!, score: each.performance * weights[place]!, wins: wins?.[place] ?? null }));
  rows.sort((a, b) => b.score - a.score);
  const [first, second] = rows;
  const columns: Column<Row>[] = [
    { key: "method", title: "Method", value: (row) => row.method, cell: (row) => <span class="method"><Dot {...looksOf(order, row.method, colours)} /><a href={link(route, "method", [row.method])}><Name text={row.title} /></a></span> },
    { key: "score", title: "PSCP", number: true, value: (row) => row.score, cell: (row) => <strong>{fixed(row.score, 2)}</strong> },
    ...(rows.some((each) => each.interval) ? [{
      key: "interval", title: "95 % interval", number: true, sortable: false, help: "Of the score; costs are taken as they are.",
      value: (row: Row) => (row.interval ? `${fixed(row.interval.low * row.weight, 2)} to ${fixed(row.interval.high * row.weight, 2)}` : null),
    }] : []),
    ...(wins ? [{ key: "wins", title: "Wins", unit: "% of draws", number: true, value: (row: Row) => row.wins, cell: (row: Row) => percent(row.wins), help: "Share of bootstrap draws in which this method has the highest PSCP." }] : []),
    { key: "performance", title: "Mean score", number: true, value: (row) => row.performance, cell: (row) => fixed(row.performance) },
    ...PENALISED.flatMap((name): Column<Row>[] => {
      const unit = unitFor(COST_TITLES[name].kind, rows.map((each) => each.costs[name]));
      return [
        { key: name, title: SHORT[name][0]!.toUpperCase() + SHORT[name].slice(1), unit: unit.name, number: true, value: (row) => row.costs[name], cell: (row) => amount(row.costs[name], unit) },
        { key: `${name}.penalty`, title: "penalty", name: `${name} penalty`, number: true, value: (row) => penalty(row.costs[name] ?? null, model.references[name], model.exponents[name]), cell: (row) => fixed(penalty(row.costs[name] ?? null, model.references[name], model.exponents[name]), 3) },
      ];
    }),
  ];
  const sure = first!.wins === null ? "" : ` It wins in ${percent(first!.wins)} % of the draws.`;
  return (
    <>
      <p class="answer" aria-live="polite"><Words text={second ? `${first!.title} has the highest PSCP, ${fixed(first!.score, 2)}, before ${second.title} with ${fixed(second.score, 2)}.${sure}` : `${first!.title}: ${fixed(first!.score, 2)}`} /></p>
      <Table name="pscp" caption={<>PSCP of <Words text={from} />, by the importances and references above.</>} columns={columns} rows={rows} keyOf={(row) => row.method} sort="-score" />
      <div class="facing">
        <Loss rows={rows} />
        <Map candidates={candidates} known={known} model={model} />
      </div>
    </>
  );
}

/** From mean score to PSCP: how much costs take. */
function Loss({ rows }: { rows: Row[] }) {
  const { index, colours } = usePage();
  const order = methodOrder(index);
  const shown = rows.slice(0, 30);
  const look = (row: Row) => looksOf(order, row.method, colours);
  return (
    <Figure name="pscp-loss" title="What costs take from the mean score"
      description={`PSCP and mean score: ${listed(shown.map((row) => `${row.title} ${fixed(row.score, 1)} of ${fixed(row.performance, 1)}`), 30)}.`}
      when={[rows.map((each) => `${each.method}${each.score}`).join()]}
      draw={() => ({
        height: 60 + 30 * shown.length, marginLeft: 120, marginRight: 30, x: { domain: [0, 100], grid: true, label: "score" }, y: { domain: shown.map((each) => each.method), label: null, tickFormat: (name: string) => short(shown.find((each) => each.method === name)?.title, 16), tickSize: 0 },
        marks: [
          linkMark(shown, { x1: "performance", x2: "score", y1: "method", y2: "method", stroke: colours.faint, strokeDasharray: "2 3" }),
          dot(shown, { x: "performance", y: "method", r: 4, fill: colours.page, stroke: (row: Row) => look(row).colour }),
          linkMark(shown.filter((each) => each.interval), { x1: (row: Row) => row.interval!.low * row.weight, x2: (row: Row) => row.interval!.high * row.weight, y1: "method", y2: "method", stroke: (row: Row) => look(row).colour, strokeWidth: 2 }),
          dot(shown, { x: "score", y: "method", r: 5, symbol: (row: Row) => look(row).symbol, fill: (row: Row) => look(row).colour }),
        ],
      })}>
      <p class="detail">Filled: PSCP. Open: mean score.</p>
    </Figure>
  );
}

/** Neighbours of a row that have the same winner as one: fewer things to draw. */
function joined(points: MapPoint[]): (MapPoint & { end: number })[] {
  const found: (MapPoint & { end: number })[] = [];
  for (const each of points) {
    const last = found.at(-1);
    if (last && last.y === each.y && last.winner === each.winner) last.end = each.x;
    else found.push({ ...each, end: each.x });
  }
  return found;
}

/** Which method has the highest PSCP over the plane of two importances. */
function Map({ candidates, known, model }: { candidates: Candidate[]; known: Costed[]; model: CostModel }) {
  const { route } = usePage();
  const axes = PENALISED.filter((name) => candidates.every((each) => each.costs[name] !== null));
  const x = axes.find((each) => each === route.query.x) ?? axes[0];
  const y = axes.find((each) => each === route.query.y && each !== x) ?? axes.findLast((each) => each !== x);
  if (x === undefined || y === undefined) return <p class="none">The map needs two costs that are known for all methods.</p>;
  return <Plane {...{ candidates, known, model, axes, x, y }} />;
}

interface PlaneProps {
  candidates: Candidate[];
  known: Costed[];
  model: CostModel;
  axes: Penalised[];
  x: Penalised;
  y: Penalised;
}

function Plane(props: PlaneProps) {
  const { candidates, known, model, x, y } = props;
  // Where the sliders stand on the two axes does not change the map, only where its cross is.
  const key = JSON.stringify([{ ...model, exponents: { ...model.exponents, [x]: 0, [y]: 0 } }, candidates.map((each) => [each.method, each.performance, each.costs])]);
  const found = useLater(() => ({ points: sensitivity(candidates, model, x, y, GRID), candidates, known, x, y }), [key, x, y, candidates[0]?.draws]);
  return found ? <Drawn {...props} {...found} model={model} /> : <p class="none">Computing the map …</p>;
}

function Drawn({ points, candidates, known, model, axes, x, y }: PlaneProps & { points: MapPoint[] }) {
  const { index, route, colours } = usePage();
  const order = methodOrder(index);
  const shares = candidates.map((_, place) => points.filter((each) => each.winner === place).length / points.length);
  const winners = candidates.flatMap((_, place) => (shares[place]! > 0 ? [place] : []));
  const step = GRID[1]! / 2;
  const runs = useMemo(() => joined(points), [points]);
  const colour = (place: number) => looksOf(order, candidates[place]!.method, colours).colour;
  const third = PENALISED.find((each) => each !== x && each !== y)!;
  // A name stands at the point of its region that is nearest to the region's middle.
  const labels = winners.filter((place) => shares[place]! > 0.02).map((place) => {
    const own = points.filter((each) => each.winner === place);
    const middle = { x: own.reduce((sum, each) => sum + each.x, 0) / own.length, y: own.reduce((sum, each) => sum + each.y, 0) / own.length };
    const near = own.reduce((best, each) => (Math.hypot(each.x - middle.x, each.y - middle.y) < Math.hypot(best.x - middle.x, best.y - middle.y) ? each : best));
    return { x: near.x, y: near.y, name: short(known[place]!.title, 18) };
  });
  const words = winners.sort((a, b) => shares[b]! - shares[a]!).map((place) => `${known[place]!.title} on ${percent(shares[place]!)} %`);
  const unsure = points.filter((each) => !each.sure);
  const set = (name: "x" | "y") => (value: string) => change(route, { [name]: value });
  const title = (name: string) => COST_TITLES[name as Penalised].title;
  return (
    <Figure name="pscp-map" title="Which method has the highest PSCP" when={[points, model.exponents[x], model.exponents[y]]}
      description={`Over importances of ${SHORT[x]} and ${SHORT[y]} from 0 to 4: ${listed(words, 10)} of the plane. Not sure on ${percent(unsure.length / points.length)} %.`}
      draw={(width) => ({
        height: Math.min(width, 460), marginLeft: 46, marginBottom: 40, x: { domain: [-step, MOST_EXPONENT + step], label: `importance of ${SHORT[x]}` }, y: { domain: [-step, MOST_EXPONENT + step], label: `importance of ${SHORT[y]}` },
        marks: [
          rect(runs, { x1: (each) => each.x - step, x2: (each) => each.end + step, y1: (each) => each.y - step, y2: (each) => each.y + step, fill: (each) => colour(each.winner), shapeRendering: "crispEdges" }),
          dot(unsure, { x: "x", y: "y", r: 1.7, fill: "#000", stroke: "#fff", strokeWidth: 0.9 }),
          axisX({ ticks: [0, 1, 2, 3, 4] }), axisY({ ticks: [0, 1, 2, 3, 4] }),
          dot([{ x: model.exponents[x], y: model.exponents[y] }], { x: "x", y: "y", r: 8, symbol: "times", stroke: "#fff", strokeWidth: 6 }),
          dot([{ x: model.exponents[x], y: model.exponents[y] }], { x: "x", y: "y", r: 8, symbol: "times", stroke: "#000", strokeWidth: 2.5 }),
          text(labels, { x: "x", y: "y", text: "name", fontSize: 14, fontWeight: 600, fill: "#000", stroke: "#fff", strokeWidth: 4 }),
        ],
      })}>
      <p class="detail">
        {words.join(", ")} of the plane. The cross is where the sliders are. Dotted: not sure, the winner wins in less than 95 % of the draws{candidates.some((each) => each.draws) ? "" : ", or without draws is less than 1 % ahead"}. The importance of {SHORT[third]} is {fixed(model.exponents[third], 2)}.
      </p>
      <div class="filters">
        <Select label="Across" of={{ value: x, options: axes }} set={set("x")} title={title} />
        <Select label="Up" of={{ value: y, options: axes.filter((each) => each !== x) }} set={set("y")} title={title} />
      </div>
    </Figure>
  );
}
