/** One dataset: what it is, an example as a model sees it, how long its prompts are, and how all methods do on it. */
import { dot, link as linkMark, rectY, ruleY } from "@observablehq/plot";
import { areaOf, choose, methodOrder, methodTitle } from "../choice";
import { labelOf } from "../compute/rates";
import { readText, where } from "../compute/records";
import { cellOf, isComplete } from "../compute/standings";
import { useFile } from "../data";
import { fixed, whole } from "../numbers";
import { usePage } from "../parts/context";
import { Figure } from "../parts/figure";
import { Filters, Select } from "../parts/filters";
import { scaleOver, Whisker } from "../parts/interval";
import { Table, type Column } from "../parts/table";
import { Block, Facts, Name, Notice, Prose, Words } from "../parts/text";
import { change, link } from "../route";
import { listed, short } from "../text";
import { looksOf } from "../theme";
import type { Cell, DatasetFile, Group } from "../types";
import { Dot } from "./leaderboard";

export function DatasetView() {
  const { index, route } = usePage();
  const name = route.parts[0] ?? "";
  const known = Object.hasOwn(index.datasets, name) ? index.datasets[name]! : null;
  const file = useFile<DatasetFile>(known ? `dataset/${known.file ?? name}` : null);
  const { group } = choose(index, route.query);
  return (
    <>
      <p class="crumbs"><a href={link(route, "heatmap")}>Datasets</a> / dataset</p>
      <h1><Words text={known?.title || name} />{known?.title && known.title !== name && <> <code><Words text={name} /></code></>}</h1>
      {known ? <p><Words text={known.task ?? "task unknown"} />, area <Words text={areaOf(index, name)} />. Scored by <Words text={known.metric_title ?? known.metric ?? "an unknown metric"} />{known.test_rows !== null && `, ${whole(known.test_rows)} test rows`}.</p>
        : <Notice kind="warning">No dataset of that name is described here.</Notice>}
      <h2>Scores</h2>
      <Filters parts={["method"]} />
      {group && <Scores group={group} dataset={name} />}
      <div class="facing">
        <div>
          {file?.example && (
            <>
              <h2>An example, as a model sees it</h2>
              {Object.entries(file.example).map(([protocol, each]) => each && (
                <section key={protocol}>
                  <h3>Protocol <Words text={protocol} /></h3>
                  <Block text={each.prompt} label={`Prompt, ${protocol}`} />
                  <p class="detail">Answer:</p>
                  <Block text={each.target} label={`Answer, ${protocol}`} />
                </section>
              ))}
            </>
          )}
          {file?.lengths && <Lengths lengths={file.lengths} name={name} />}
        </div>
        {file && <section><h2>Description</h2><Facts of={file.spec} /></section>}
      </div>
      {file?.notes?.map((each) => <Notice key={each}><Prose text={each} /></Notice>)}
      {file === undefined && known && <p class="none">Reading …</p>}
    </>
  );
}

interface Row {
  method: string;
  cell: Cell | undefined;
}

function Scores({ group, dataset }: { group: Group; dataset: string }) {
  const { index, route, colours } = usePage();
  const order = methodOrder(index);
  const title = (method: string) => methodTitle(index, method);
  const chosen = (route.query.method ?? "").split(",").filter((each) => group.methods.includes(each));
  const rows: Row[] = (chosen.length ? chosen : group.methods).map((method) => ({ method, cell: cellOf(group, dataset, method) }));
  rows.sort((a, b) => (b.cell?.estimate ?? -1) - (a.cell?.estimate ?? -1));
  const known = rows.filter((each): each is Row & { cell: Cell & { estimate: number } } => each.cell?.estimate != null);
  if (known.length === 0) return <p class="none">No method has a score on this dataset here.</p>;
  const scale = scaleOver(known.flatMap(({ cell }) => [cell.estimate, cell.low, cell.high]));
  const range = (cell: Cell) => (cell.low !== null && cell.high !== null ? { low: cell.low, high: cell.high } : null);
  const look = (method: string) => looksOf(order, method, colours);
  const columns: Column<Row>[] = [
    { key: "method", title: "Method", value: (row) => row.method, cell: (row) => <span class="method"><Dot {...look(row.method)} /><a href={link(route, "method", [row.method])}><Name text={title(row.method)} /></a></span> },
    { key: "score", title: "Score", unit: "0–100", number: true, value: (row) => row.cell?.estimate, look: (row) => (row.cell?.estimate == null ? "gap" : undefined),
      cell: (row) => (row.cell?.estimate == null ? <span class="refused">{row.cell?.failed.length ? "failed" : "missing"}</span> : <strong>{fixed(row.cell.estimate)}</strong>) },
    { key: "interval", title: "95 % interval", unit: `${scale.from} to ${scale.to}`, sortable: false, value: (row) => (row.cell?.low == null ? null : `${fixed(row.cell.low)} to ${fixed(row.cell.high)}`),
      cell: (row) => row.cell?.estimate == null ? null : <span class="range"><Whisker value={row.cell.estimate} range={range(row.cell)} scale={scale} colour={look(row.method).colour} /><span class="figures">{row.cell.low === null ? "" : `${fixed(row.cell.low)} to ${fixed(row.cell.high)}`}</span></span> },
    { key: "sd", title: "SD over seeds", number: true, value: (row) => row.cell?.sd, cell: (row) => fixed(row.cell?.sd, 2) },
    { key: "seeds", title: "Seeds", number: true, value: (row) => row.cell?.seeds },
    { key: "gaps", title: "Missing or failed", value: (row) => [...(row.cell?.missing ?? []), ...(row.cell?.failed ?? [])].join("; "), cell: (row) => isComplete(row.cell) ? "none" : <Words text={[...(row.cell?.missing ?? []), ...(row.cell?.failed ?? [])].join("; ") || "no run"} /> },
    { key: "runs", title: "Runs", sortable: false, value: () => null, cell: (row) => row.cell && <a href={link(route, "runs", [], { dataset, method: row.method })} aria-label={`Runs of ${short(row.method)}`}>runs</a> },
  ];
  const shown = known.slice(0, 30);
  return (
    <>
      <SideBySide group={group} dataset={dataset} methods={known.map((each) => each.method)} />
      <Table name="scores" caption={<>All methods on <Words text={dataset} />, <Words text={group.label} />.</>} columns={columns} rows={rows} keyOf={(row) => row.method} sort="-score" />
      <Figure name={`scores-${dataset}`} title={<>Scores on <Words text={dataset} /> with 95 % intervals</>} when={[group.id, dataset, shown.map((each) => each.method).join()]}
        description={`Scores: ${listed(shown.map(({ method, cell }) => `${title(method)} ${fixed(cell.estimate)}`), 30)}.`}
        draw={() => ({
          height: 50 + 28 * shown.length, marginLeft: 120, x: { grid: true, label: "score", domain: [scale.from, scale.to] }, y: { domain: shown.map((each) => each.method), label: null, tickSize: 0, tickFormat: (each: string) => short(title(each), 16) },
          marks: [
            linkMark(shown.filter(({ cell }) => range(cell)), { x1: ({ cell }: Row) => cell!.low!, x2: ({ cell }: Row) => cell!.high!, y1: "method", y2: "method", stroke: (each: Row) => look(each.method).colour, strokeWidth: 2.5 }),
            dot(shown, { x: (each) => each.cell.estimate, y: "method", r: 6, symbol: (each: Row) => look(each.method).symbol, fill: (each) => look(each.method).colour, stroke: colours.page }),
          ],
        })} />
    </>
  );
}

/** Two methods on the same rows: the first seed that each has. */
function SideBySide({ group, dataset, methods }: { group: Group; dataset: string; methods: string[] }) {
  const { index, route } = usePage();
  const { records } = index;
  const keys = new Map<string, string>();
  for (const row of where(records, { dataset: [dataset], status: ["done"], model: [group.model], protocol: [group.protocol], source: [group.source ?? "measured"] })) {
    const method = labelOf(records, row);
    if (readText(records, "group", row) === group.id || !keys.has(method)) keys.set(method, keys.get(method) ?? readText(records, "key", row));
  }
  const options = methods.filter((each) => keys.has(each)).slice(0, 500);
  if (options.length < 2 || group.source !== "measured") return null;
  const first = options.find((each) => each === route.query.first) ?? options[0]!;
  const second = options.find((each) => each === route.query.second && each !== first) ?? options.find((each) => each !== first)!;
  const title = (method: string) => methodTitle(index, method);
  return (
    <div class="filters">
      <Select label="Side by side" of={{ value: first, options }} title={title} set={(value) => change(route, { first: value })} />
      <Select label="and" of={{ value: second, options: options.filter((each) => each !== first) }} title={title} set={(value) => change(route, { second: value })} />
      <a class="button" href={link(route, "diff", [keys.get(first)!, keys.get(second)!])}>Rows on which they differ</a>
    </div>
  );
}

function Lengths({ lengths, name }: { lengths: NonNullable<DatasetFile["lengths"]>; name: string }) {
  const { colours } = usePage();
  const bars = lengths.counts.map((count, place) => ({ from: lengths.edges[place]!, to: lengths.edges[place + 1]!, count }));
  const most = bars.reduce((best, each) => (each.count > best.count ? each : best), bars[0]!);
  const of = /char/i.test(lengths.tokenizer) ? "characters" : "tokens";
  return (
    <Figure name={`lengths-${name}`} title={<>How long prompts are{lengths.of && <>: <Words text={lengths.of} /></>}{of === "characters" ? ", in characters" : <> (tokenizer: <Words text={lengths.tokenizer} />)</>}</>} when={[name]}
      description={`Lengths from ${whole(lengths.edges[0])} to ${whole(lengths.edges.at(-1))} ${of}, most rows between ${whole(most.from)} and ${whole(most.to)}.`}
      draw={() => ({
        height: 240, marginLeft: 48, x: { label: `${of} →` }, y: { label: "↑ rows", grid: true },
        marks: [rectY(bars, { x1: "from", x2: "to", y: "count", fill: colours.series[0]!, inset: 0.5 }), ruleY([0])],
      })} />
  );
}
