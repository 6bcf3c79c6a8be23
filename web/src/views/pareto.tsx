/** Score against one cost: who is not beaten in both, and how surely. */
import { axisX, dot, gridX, line, link as linkMark, text } from "@observablehq/plot";
import { methodOrder } from "../choice";
import { heights } from "../compute/labels";
import { frontShares, onFront } from "../compute/pareto";
import { amount, COST_TITLES, fixed, percent, unitFor } from "../numbers";
import { useCosted, type Costed } from "../parts/candidates";
import { usePage } from "../parts/context";
import { Figure } from "../parts/figure";
import { Filters, Select } from "../parts/filters";
import { Table, type Column } from "../parts/table";
import { Name, Notice, Prose, Words } from "../parts/text";
import { change, link } from "../route";
import { listed, short } from "../text";
import { looksOf } from "../theme";
import { COSTS, type Cost } from "../types";
import { Dot } from "./leaderboard";

const HEIGHT = 440;
const MARGINS = { marginLeft: 48, marginRight: 24, marginBottom: 42, marginTop: 26 };

interface Row extends Costed {
  cost: number;
  front: boolean;
  share: number | null;
}

export function Pareto() {
  const { index, route, colours } = usePage();
  const { from, methods, refused, table, ready, why } = useCosted();
  const available = COSTS.filter((name) => methods.some((each) => typeof each.costs[name] === "number"));
  const cost: Cost = available.find((each) => each === route.query.cost) ?? available[0] ?? "trainable_params";
  const known = methods.filter((each) => typeof each.costs[cost] === "number");
  const front = onFront(known.map((each) => ({ cost: each.costs[cost]!, score: each.performance })));
  const shares = frontShares(known.map((each) => each.costs[cost]!), known.map((each) => each.draws));
  const rows: Row[] = known.map((each, place) => ({ ...each, cost: each.costs[cost]!, front: front[place]!, share: shares?.[place] ?? null }));
  const { title, kind } = COST_TITLES[cost];
  const unit = unitFor(kind, rows.map((each) => each.cost));
  const order = methodOrder(index);
  const look = (row: Row) => looksOf(order, row.method, colours);
  const best = rows.filter((each) => each.front).sort((a, b) => a.cost - b.cost);
  const log = route.query.scale ? route.query.scale === "log" : isWide(rows.map((each) => each.cost));
  const left = [...methods.filter((each) => !known.includes(each)).map((each) => `${each.title} (${title} unknown)`), ...refused.map((each) => `${each.method} (${each.why})`)];
  const columns: Column<Row>[] = [
    { key: "method", title: "Method", value: (row) => row.method, cell: (row) => <span class="method"><Dot {...look(row)} /><a href={link(route, "method", [row.method])}><Name text={row.title} /></a></span> },
    { key: "cost", title: title[0]!.toUpperCase() + title.slice(1), unit: unit.name, number: true, value: (row) => row.cost, cell: (row) => amount(row.cost, unit) },
    { key: "score", title: "Mean score", number: true, value: (row) => row.performance, cell: (row) => fixed(row.performance) },
    { key: "interval", title: "95 % interval", number: true, sortable: false, value: (row) => (row.interval ? `${fixed(row.interval.low)} to ${fixed(row.interval.high)}` : null) },
    { key: "front", title: "On the front", value: (row) => (row.front ? "yes" : "no") },
    ...(shares ? [{ key: "share", title: "On the front", unit: "% of draws", number: true, value: (row: Row) => row.share, cell: (row: Row) => percent(row.share), help: "Share of bootstrap draws of the scores in which the method is on the front." }] : []),
  ];
  const scaled = (each: number) => each / unit.size;
  return (
    <>
      <h1>Score against cost</h1>
      <p>A method is on the front if no other is cheaper and at least as good. The rest costs more than it gives.</p>
      <Filters off={table !== null}>
        {index.tables.length > 0 && (
          <Select label="Numbers from" of={{ value: table?.name ?? "", options: ["", ...index.tables.map((each) => each.name)] }}
            title={(name) => index.tables.find((each) => each.name === name)?.title ?? "the runs"} set={(name) => change(route, { table: name })} />
        )}
        <Select label="Cost" of={{ value: cost, options: available }} title={(name) => COST_TITLES[name as Cost].title} set={(value) => change(route, { cost: value, scale: "" })} />
        <Select label="Scale" of={{ value: log ? "log" : "linear", options: ["log", "linear"] }} title={(each) => (each === "log" ? "logarithmic" : "linear")} set={(value) => change(route, { scale: value })} />
      </Filters>
      {why && <Notice kind="warning"><Prose text={why} /></Notice>}
      {left.length > 0 && <Notice>Not shown: <Words text={listed(left, 12)} />.</Notice>}
      {!ready ? <p class="none">Reading …</p> : rows.length === 0 ? <p class="none">No method has a mean and this cost.</p> : (
        <>
          <p class="answer"><Words text={`On the front of ${title}: ${listed(best.map((each) => each.title))}.`} /></p>
          <Figure name={`pareto-${cost}`} title={<>Mean score against {title}, <Words text={from} /></>} when={[rows.map((each) => [each.method, each.cost, each.performance, each.interval?.low].join()).join(), log]}
            description={`${listed(rows.map((row) => `${row.title}: ${amount(row.cost, unit)} ${unit.name}, score ${fixed(row.performance)}${row.front ? ", on the front" : ""}`), 30)}.`}
            draw={(width) => {
              const positive = rows.map((each) => scaled(each.cost)).filter((each) => each > 0);
              const [least, most] = [Math.min(...positive), Math.max(...positive)];
              // On a logarithmic scale a cost of 0 has no place: it is set left of all others, and its tick says 0.
              const zero = least / 8;
              const place = (row: Row) => (log && row.cost <= 0 ? zero : scaled(row.cost));
              const hasZero = log && rows.some((each) => each.cost <= 0);
              const scores = rows.flatMap((each) => [each.performance, each.interval?.low ?? each.performance, each.interval?.high ?? each.performance]);
              const padding = (Math.max(...scores) - Math.min(...scores)) * 0.08 + 0.5;
              const ticks = log && positive.length > 0 ? [...(hasZero ? [zero] : []), ...decades(least, most)] : undefined;
              // Names stand right of their marks, but near the right edge left of them.
              const ends = log && positive.length > 0 ? [hasZero ? zero : least, most].map(Math.log) : [0, most];
              const isRight = (row: Row) => ((log && positive.length > 0 ? Math.log(place(row)) : place(row)) - ends[0]!) / (ends[1]! - ends[0]! || 1) > 0.7;
              const named = rows.length > 40 ? rows.filter((each) => each.front) : rows;
              const across: [number, number] = log && positive.length > 0 ? [Math.log((hasZero ? zero : least) / 1.5), Math.log(most * 1.5)] : [0, most];
              const up: [number, number] = [Math.max(0, Math.min(...scores) - padding), Math.min(100, Math.max(...scores) + padding)];
              const share = (value: number, [from, to]: [number, number]) => (value - from) / (to - from || 1);
              const above = heights(named.map((row) => ({
                x: MARGINS.marginLeft + share(log && positive.length > 0 ? Math.log(place(row)) : place(row), across) * (width - MARGINS.marginLeft - MARGINS.marginRight),
                y: MARGINS.marginTop + (1 - share(row.performance, up)) * (HEIGHT - MARGINS.marginTop - MARGINS.marginBottom),
                letters: [...short(row.title, 18)].length, isLeft: isRight(row),
              })));
              return {
                height: HEIGHT, ...MARGINS,
                x: {
                  type: log && positive.length > 0 ? ("log" as const) : ("linear" as const), label: `${title}${unit.name && `, ${unit.name}`} →`, nice: !hasZero,
                  ...(log && positive.length > 0 ? { domain: [hasZero ? zero / 1.5 : least / 1.5, most * 1.5] } : { zero: true }),
                },
                y: { grid: true, domain: up, label: "↑ mean score" },
                marks: [
                  axisX(ticks, { text: (each: number) => (hasZero && each === zero ? "0" : tick(each)), label: `${title}${unit.name && `, ${unit.name}`} →` }),
                  gridX(ticks),
                  line(best, { x: place, y: "performance", curve: "step-after", stroke: colours.faint, strokeDasharray: "5 4" }),
                  linkMark(rows.filter((each) => each.interval), { x1: place, x2: place, y1: (row: Row) => row.interval!.low, y2: (row: Row) => row.interval!.high, stroke: (row: Row) => look(row).colour, strokeWidth: 2 }),
                  dot(rows, { x: place, y: "performance", r: 6.5, symbol: (row: Row) => look(row).symbol, fill: (row: Row) => (row.front ? look(row).colour : colours.page), stroke: (row: Row) => look(row).colour, strokeWidth: 2 }),
                  ...named.map((row, number) =>
                    text([row], { x: place, y: "performance", text: () => short(row.title, 18), dx: isRight(row) ? -11 : 11, dy: above[number]!, textAnchor: isRight(row) ? "end" : "start", fontSize: 13, fill: colours.text, stroke: colours.page, strokeWidth: 4 }),
                  ),
                ],
              };
            }}>
            <p class="detail">Filled: on the front, which the dashed line follows. Bars: 95 % intervals of the mean.</p>
          </Figure>
          <Table name="pareto" caption={<>{title[0]!.toUpperCase() + title.slice(1)} and mean score of <Words text={from} />.</>} columns={columns} rows={rows} keyOf={(row) => row.method} sort="cost" />
        </>
      )}
    </>
  );
}

function isWide(costs: number[]): boolean {
  const positive = costs.filter((each) => each > 0);
  return positive.length > 1 && Math.max(...positive) / Math.min(...positive) > 20;
}

/** Ticks of a logarithmic scale: powers of ten, and where these are few 2 and 5 times them. */
function decades(least: number, most: number): number[] {
  const steps = most / least < 100 ? [1, 2, 5] : [1];
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) found.push(...steps.map((step) => step * 10 ** power));
  return found.filter((each) => each >= least / 1.5 && each <= most * 1.5);
}

function tick(value: number): string {
  return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
}
