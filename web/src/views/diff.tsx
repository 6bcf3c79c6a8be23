/** Two runs on the same rows: how often both, one or none is right, and the rows on which they differ. */
import { methodTitle } from "../choice";
import { countVerdicts, differs, pairUp, type Pair, type Verdict } from "../compute/pairs";
import { useFile, useFiles } from "../data";
import { fixed } from "../numbers";
import { usePage } from "../parts/context";
import { Table, type Column } from "../parts/table";
import { Block, Name, Notice, Words } from "../parts/text";
import { change, link } from "../route";
import { plural, short } from "../text";
import type { Prediction, PredictionsFile, RunFile } from "../types";
import { Verdict as Judged } from "./run";

const MOST_PAGES = 40;

export function Diff() {
  const { index, route } = usePage();
  const [firstKey = "", secondKey = ""] = route.parts;
  const first = useFile<RunFile>(`run/${firstKey}`);
  const second = useFile<RunFile>(`run/${secondKey}`);
  const left = usePredictions(first);
  const right = usePredictions(second);
  if (first === undefined || second === undefined) return <p class="none">Reading the runs …</p>;
  if (first === null || second === null)
    return <><h1>Two runs side by side</h1><p>The run <Words text={first === null ? firstKey : secondKey} /> is not part of this page. <a href={link(route, "runs")}>Choose another</a>.</p></>;
  const name = (file: RunFile) => `${methodTitle(index, String(file.row.label ?? file.row.method))}${file.row.seed === null ? "" : `, seed ${file.row.seed}`}`;
  const names: Record<Verdict, string> = {
    "both right": "both right", "only first": `only ${name(first)}`, "only second": `only ${name(second)}`, "both wrong": "both wrong", unknown: "not judged",
  };
  const same = first.row.dataset === second.row.dataset;
  return (
    <>
      <p class="crumbs"><a href={link(route, "run", [firstKey])}>first run</a> / <a href={link(route, "run", [secondKey])}>second run</a> / <a href={link(route, "diff", [secondKey, firstKey])}>swap</a></p>
      <h1><Words text={name(first)} /> and <Words text={name(second)} /> on the same rows</h1>
      <p>Dataset <Words text={first.row.dataset} />{!same && <> and <Words text={second.row.dataset} /></>}. Scores {fixed(first.row.score as number | null, 2)} and {fixed(second.row.score as number | null, 2)}.</p>
      {!same && <Notice kind="warning">The runs are of different datasets, so that their rows are not the same.</Notice>}
      {(!first.predictions || !second.predictions) && <Notice>The predictions of {first.predictions ? "the second" : "the first"} run are not part of this page, so that rows cannot be compared.</Notice>}
      {left && right ? <Rows left={left} right={right} names={names} first={first} second={second} /> : first.predictions && second.predictions ? <p class="none">Reading the predictions …</p> : null}
    </>
  );
}

/** All predictions of a run; null while they are read. */
function usePredictions(file: RunFile | null | undefined): Prediction[] | null {
  const pages = Math.min(MOST_PAGES, file?.predictions?.pages ?? 0);
  const found = useFiles<PredictionsFile>(Array.from({ length: pages }, (_, page) => `predictions/${file!.key}/${page}`));
  if (pages === 0 || found.includes(undefined)) return null;
  return found.flatMap((each) => each?.rows ?? []);
}

function Rows({ left, right, names, first, second }: { left: Prediction[]; right: Prediction[]; names: Record<Verdict, string>; first: RunFile; second: RunFile }) {
  const { route } = usePage();
  const { pairs, alone } = pairUp(left, right);
  const counts = countVerdicts(pairs);
  const show = route.query.show ?? "differ";
  const shown = pairs.filter((each) => (show === "differ" ? differs(each) : show === "all" ? true : each.verdict === show));
  const columns: Column<Pair>[] = [
    { key: "id", title: "Row", value: (row) => row.first.id, cell: (row) => <Name text={row.first.id} /> },
    { key: "verdict", title: "Right", value: (row) => names[row.verdict], cell: (row) => <Words text={names[row.verdict]} /> },
    { key: "first", title: <Name text={names["only first"].slice(5)} />, name: names["only first"].slice(5), value: (row) => row.first.text, cell: (row) => <><Judged right={row.first.right} valid={row.first.valid} /><Block text={row.first.text} label={`First output of row ${short(row.first.id)}`} /></> },
    { key: "second", title: <Name text={names["only second"].slice(5)} />, name: names["only second"].slice(5), value: (row) => row.second.text, cell: (row) => <><Judged right={row.second.right} valid={row.second.valid} /><Block text={row.second.text} label={`Second output of row ${short(row.first.id)}`} /></> },
    { key: "references", title: "Reference", value: (row) => row.first.references.map(String).join(" | "), cell: (row) => <Block text={row.first.references.map(String).join("\n")} label={`Reference of row ${short(row.first.id)}`} /> },
    { key: "prompt", title: "Prompt", value: (row) => row.first.prompt, cell: (row) => row.first.prompt === null ? <span class="none">not stored</span> : <details><summary><Words text={short(row.first.prompt, 30)} /></summary><Block text={row.first.prompt} label={`Prompt of row ${short(row.first.id)}`} /></details> },
  ];
  const judged = pairs.length - counts.unknown;
  return (
    <>
      <ul class="tiles">
        {(["both right", "only first", "only second", "both wrong", "unknown"] as Verdict[]).filter((each) => counts[each] > 0 || (each !== "unknown" && judged > 0)).map((each) => (
          <li key={each}><strong>{counts[each].toLocaleString("en")}</strong><span><Words text={names[each]} /></span></li>
        ))}
      </ul>
      {alone > 0 && <Notice kind="warning">{plural(alone, "row")} of one run alone {alone === 1 ? "is" : "are"} left out.</Notice>}
      {Math.max(first.predictions!.pages, second.predictions!.pages) > MOST_PAGES && <Notice>Only the first {MOST_PAGES} pages of predictions are compared here.</Notice>}
      <div class="filters" role="group" aria-label="Which rows">
        {["differ", "both right", "only first", "only second", "both wrong", "all"].map((each) => (
          <button key={each} type="button" class="quiet" aria-pressed={show === each} onClick={() => change(route, { show: each === "differ" ? "" : each, "diff.page": "" })}>
            <Words text={each === "differ" ? "where they differ" : each === "all" ? "all" : names[each as Verdict]} />
          </button>
        ))}
      </div>
      <Table name="diff" caption={<>{plural(shown.length, "row")} of {pairs.length.toLocaleString("en")} that both answered.</>} columns={columns} rows={shown} keyOf={(row) => String(row.first.id)} pageSize={25} empty="No such row." />
    </>
  );
}
