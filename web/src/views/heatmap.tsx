/** Every dataset with every method: scores printed, missing and failed cells seen. */
import { cell as cellMark, text } from "@observablehq/plot";
import { areaOf, choose, methodTitle } from "../choice";
import { cellOf, isComplete } from "../compute/standings";
import { csv } from "../csv";
import { saveCsv, savePng, saveSvg } from "../download";
import { fixed } from "../numbers";
import { usePage } from "../parts/context";
import { drawn } from "../parts/figure";
import { Filters, Select } from "../parts/filters";
import { useGroup } from "../parts/group";
import { Name, Notice, Prose, Words } from "../parts/text";
import { amountColour, differenceColour, type Ground } from "../ramps";
import { change, link } from "../route";
import { plural, short, visible } from "../text";
import type { Cell, Group } from "../types";

const MOST_COLUMNS = 40;
const MODES: Record<string, string> = {
  score: "score",
  base: "difference to the base model",
  best: "how far behind the best of the dataset",
};

interface Square {
  dataset: string;
  method: string;
  cell: Cell | undefined;
  /** What stands in it. */
  words: string;
  colour: Ground | null;
  best: boolean;
}

export function Heatmap() {
  const { index, route, colours } = usePage();
  const { group } = choose(index, route.query);
  const { datasets, methods, standings } = useGroup(group);
  if (!group) return <><h1>Datasets and methods</h1><p class="none">There is nothing to compare.</p></>;
  const columns = methods.slice(0, MOST_COLUMNS);
  const mode = Object.hasOwn(MODES, route.query.colour ?? "") ? route.query.colour! : "score";
  const squares = new Map(datasets.map((dataset) => [dataset, rowOf(group, dataset, columns, mode)]));
  const areas = [...new Set(datasets.map((each) => areaOf(index, each)))];
  const gaps = [...squares.values()].flat().filter((each) => !isComplete(each.cell)).length;
  const means = new Map(standings.map((each) => [each.method, each]));
  const name = `heatmap-${mode}`;
  const download = () => saveCsv(name, csv(["dataset", ...columns], datasets.map((each) => [each, ...squares.get(each)!.map((square) => square.cell?.estimate ?? square.words)])));
  const drawing = () => asFigure([...squares.values()].flat(), datasets, columns, (method) => methodTitle(index, method), colours.text);
  return (
    <>
      <h1>Every dataset with every method</h1>
      <Filters>
        <Select label="Colour" of={{ value: mode, options: methods.includes("base") ? Object.keys(MODES) : ["score", "best"] }} title={(each) => MODES[each]!} set={(value) => change(route, { colour: value === "score" ? "" : value })} />
      </Filters>
      {group.refused && <Notice kind="warning">These runs are not compared: <Prose text={group.refused} /></Notice>}
      <Legend mode={mode} gaps={gaps} />
      <div class="scroll heat" tabIndex={0} role="region" aria-label="Table: scores of every dataset with every method">
        <table>
          <caption><span class="stay"><Words text={group.label} />, protocol <Words text={group.protocol} />: mean over seeds, 0 to 100. The best of a dataset is bold. A cell leads to its runs.</span></caption>
          <thead>
            <tr>
              <th scope="col">Dataset</th>
              {columns.map((each) => <th key={each} scope="col"><a href={link(route, "method", [each])}><Name text={methodTitle(index, each)} /></a></th>)}
            </tr>
          </thead>
          {areas.map((area) => (
            <tbody key={area}>
              {areas.length > 1 && <tr><th class="area" scope="rowgroup" colSpan={columns.length + 1}><Words text={area} /></th></tr>}
              {datasets.filter((each) => areaOf(index, each) === area).map((dataset) => (
                <tr key={dataset}>
                  <th scope="row"><a href={link(route, "dataset", [dataset])}><Name text={dataset} /></a></th>
                  {squares.get(dataset)!.map((square) => <SquareCell key={square.method} {...square} />)}
                </tr>
              ))}
            </tbody>
          ))}
          <tbody>
            <tr>
              <th scope="row">mean</th>
              {columns.map((each) => {
                const found = means.get(each);
                return <td key={each} class={found?.mean == null ? "gap" : undefined}><span class="words">{found?.mean == null ? "refused" : <strong>{fixed(found.mean)}</strong>}</span></td>;
              })}
            </tr>
          </tbody>
        </table>
      </div>
      {methods.length > MOST_COLUMNS && <Notice>{plural(methods.length - MOST_COLUMNS, "more method")}: choose some by the filter.</Notice>}
      <div class="tools">
        <button type="button" class="quiet" aria-label="Download the heat map as CSV" onClick={download}>CSV</button>
        <button type="button" class="quiet" aria-label="Download the heat map as SVG" onClick={() => saveSvg(name, drawing(), colours.page)}>SVG</button>
        <button type="button" class="quiet" aria-label="Download the heat map as PNG" onClick={() => void savePng(name, drawing(), colours.page)}>PNG</button>
      </div>
    </>
  );
}

function rowOf(group: Group, dataset: string, methods: string[], mode: string): Square[] {
  const cells = methods.map((method) => cellOf(group, dataset, method));
  const scores = cells.flatMap((each) => (isComplete(each) ? [each.estimate] : []));
  const top = Math.max(...scores);
  const base = cellOf(group, dataset, "base")?.estimate ?? null;
  return methods.map((method, place) => {
    const cell = cells[place];
    const score = cell?.estimate ?? null;
    const words = score !== null ? shown(score, mode, base, top) : cell?.failed.length ? "failed" : "missing";
    let colour: Ground | null = null;
    if (score !== null && mode === "score") colour = amountColour(score / 100);
    if (score !== null && mode === "best") colour = amountColour(1 - (top - score) / 40);
    if (score !== null && mode === "base" && base !== null) colour = differenceColour((score - base) / 50);
    return { dataset, method, cell, words, colour, best: isComplete(cell) && score === top && scores.length > 1 };
  });
}

function shown(score: number, mode: string, base: number | null, top: number): string {
  if (mode === "base") return base === null ? "no base" : `${score > base ? "+" : ""}${fixed(score - base)}`;
  return mode === "best" ? fixed(score - top) : fixed(score);
}

function SquareCell({ dataset, method, cell, words, colour, best }: Square) {
  const { route } = usePage();
  const whole = isComplete(cell);
  const reasons = [...(cell?.failed ?? []), ...(cell?.missing ?? [])];
  const interval = cell?.low != null && cell.high != null ? `, 95 % interval ${fixed(cell.low)} to ${fixed(cell.high)}` : "";
  const title = visible(`${method} on ${dataset}: ${cell?.estimate == null ? words : fixed(cell.estimate, 2)}${interval}${reasons.length ? `. Not complete: ${reasons.join("; ")}` : ""}`);
  if (cell === undefined) return <td class="gap" title={title}><span><span class="words">missing</span></span></td>;
  return (
    <td class={cell.estimate === null ? "gap" : undefined}>
      <a href={link(route, "runs", [], { dataset, method })} title={title} style={colour ? { background: colour.ground, color: colour.ink } : undefined}>
        <span class={cell.estimate === null ? "words" : undefined}>{best ? <strong>{words}</strong> : words}</span>
        {!whole && cell.estimate !== null && <span aria-label={`${reasons.length} runs missing or failed`}>✱</span>}
      </a>
    </td>
  );
}

function Legend({ mode, gaps }: { mode: string; gaps: number }) {
  const stops = Array.from({ length: 9 }, (_, place) => (mode === "base" ? differenceColour(place / 4 - 1) : amountColour(place / 8)).ground);
  const ends = { score: ["0", "100"], base: ["-50 or less", "+50 or more"], best: ["40 behind", "best"] }[mode] ?? ["", ""];
  return (
    <p class="legend">
      <span>{ends[0]} <span class="ramp" style={{ background: `linear-gradient(to right, ${stops.join(", ")})` }} /> {ends[1]}</span>
      <span><span class="swatch gap" /> missing or failed</span>
      <span>✱ some of its runs are missing or failed: not part of a mean</span>
      <span>{gaps === 0 ? "Nothing is missing." : `${plural(gaps, "cell")} not complete.`}</span>
    </p>
  );
}

/** The same as one drawing, for a file. */
function asFigure(squares: Square[], datasets: string[], methods: string[], title: (method: string) => string, ink: string): SVGSVGElement {
  return drawn({
    width: 140 + 90 * methods.length, height: 60 + 22 * datasets.length, marginLeft: 130, marginTop: 40, padding: 0.04,
    x: { domain: methods, axis: "top", tickSize: 0, label: null, tickFormat: (each: string) => short(title(each), 13) },
    y: { domain: datasets, tickSize: 0, label: null, tickFormat: (each: string) => short(each, 18) },
    marks: [
      cellMark(squares, { x: "method", y: "dataset", fill: (each: Square) => each.colour?.ground ?? "none", stroke: (each: Square) => (each.colour ? "none" : ink), strokeDasharray: "2 2" }),
      text(squares, { x: "method", y: "dataset", text: (each: Square) => each.words + (each.cell && !isComplete(each.cell) && each.cell.estimate !== null ? " ✱" : ""), fill: (each: Square) => each.colour?.ink ?? ink, fontWeight: 500 }),
    ],
  }, ink);
}
