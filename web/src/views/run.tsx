/** One run: its numbers, how it learned, what it answered, what it was made with. */
import { methodTitle } from "../choice";
import { readText, where } from "../compute/records";
import { labelOf } from "../compute/rates";
import { useFile } from "../data";
import { fixed, percent, whole } from "../numbers";
import { usePage } from "../parts/context";
import { Pages, Table, type Column } from "../parts/table";
import { Block, Facts, Name, Notice, Prose, Words } from "../parts/text";
import { change, link } from "../route";
import { plural, short } from "../text";
import type { Prediction, PredictionsFile, RunFile } from "../types";
import { LossCurve } from "./method";
import { Select } from "../parts/filters";

export function RunView() {
  const { index, route, colours } = usePage();
  const key = route.parts[0] ?? "";
  const file = useFile<RunFile>(`run/${key}`);
  if (file === undefined) return <p class="none">Reading the run …</p>;
  if (file === null) return <><h1>Not part of this page</h1><p>The run <Words text={key} /> has no file here: imported records have none, and large sets leave some out.</p><p><a href={link(route, "runs")}>All runs</a></p></>;
  const { row } = file;
  const method = String(row.label ?? row.method ?? "");
  return (
    <>
      <p class="crumbs"><a href={link(route, "runs")}>Runs</a> / run</p>
      <h1><Words text={methodTitle(index, method)} /> on <Words text={row.dataset} />{row.seed !== null && row.seed !== undefined && `, seed ${row.seed}`}</h1>
      <p>
        Model <Words text={row.model} />, protocol <Words text={row.protocol} />. <a href={link(route, "method", [method])}>The method</a>, <a href={link(route, "dataset", [String(row.dataset)])}>the dataset</a>.
      </p>
      {row.status === "failed" && <Notice kind="warning">This run failed: <Words text={row.failure_reason} />. <Prose text={row.failure} /></Notice>}
      {file.notes.map((each) => <Notice key={each}><Prose text={each} /></Notice>)}
      <ul class="tiles">
        <li><strong>{fixed(row.score as number | null, 2)}</strong><span>score, 0 to 100</span></li>
        {typeof row.invalid_rate === "number" && <li><strong>{percent(row.invalid_rate)} %</strong><span>invalid outputs</span></li>}
        {typeof row.trainable_params === "number" && <li><strong>{whole(row.trainable_params)}</strong><span>trainable parameters</span></li>}
        {typeof row.train_seconds === "number" && <li><strong>{whole(row.train_seconds)} s</strong><span>training</span></li>}
        {typeof row.train_peak_memory_bytes === "number" && <li><strong>{fixed(row.train_peak_memory_bytes / 1e9, 2)} GB</strong><span>peak memory</span></li>}
        {typeof row.best_validation_loss === "number" && <li><strong>{fixed(row.best_validation_loss, 4)}</strong><span>best validation loss</span></li>}
      </ul>
      <Compare file={file} />
      {file.curve.length > 0 && <LossCurve name={`curve-${key}`} title="Loss by training step" points={file.curve} by={() => "loss"} colour={() => colours.series[0]!} when={[file]} />}
      <Predictions file={file} />
      <div class="facing">
        <section><h2>Configuration</h2><Facts of={file.config} /></section>
        <section>
          {file.train && <><h2>Training</h2><Facts of={file.train} /></>}
          {file.evaluation && <><h2>Evaluation</h2><Facts of={file.evaluation} /></>}
          <h2>As a row of results</h2>
          <Facts of={{ "all columns": Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) }} />
        </section>
      </div>
    </>
  );
}

/** Other runs on the same dataset, to be set beside this one. */
function Compare({ file }: { file: RunFile }) {
  const { index, route } = usePage();
  const { records } = index;
  if (!file.predictions || typeof file.row.group !== "string") return null;
  const others = where(records, { group: [file.row.group], dataset: [String(file.row.dataset)], status: ["done"] }).filter((row) => readText(records, "key", row) !== file.key).slice(0, 500);
  if (others.length === 0) return null;
  const keys = others.map((row) => readText(records, "key", row));
  return (
    <div class="filters">
      <Select label="Set beside" of={{ value: "", options: ["", ...keys] }} set={(key) => key && (location.hash = link(route, "diff", [file.key, key]))}
        title={(key) => (key === "" ? "choose a run" : `${labelOf(records, others[keys.indexOf(key)]!)}, seed ${readText(records, "seed", others[keys.indexOf(key)]!)}`)} />
    </div>
  );
}

export function Verdict({ right, valid }: { right: boolean | null; valid?: boolean | null }) {
  const words = right === null ? "not judged" : right ? "right" : "wrong";
  return <span class={`verdict ${right === null ? "unknown" : words}`}>{right === null ? "–" : right ? "✓" : "✗"} {words}{valid === false && ", invalid"}</span>;
}

function Predictions({ file }: { file: RunFile }) {
  const { route } = usePage();
  const pages = file.predictions?.pages ?? 0;
  const page = Math.min(Math.max(1, pages), Math.max(1, Number.parseInt(route.query["predictions.page"] ?? "1", 10) || 1));
  const found = useFile<PredictionsFile>(pages > 0 ? `predictions/${file.key}/${page - 1}` : null);
  if (!file.predictions) return <><h2>What it answered</h2><p class="none">The predictions of this run are not part of this page.</p></>;
  const show = route.query.show ?? "all";
  const rows = (found?.rows ?? []).filter((each) => (show === "wrong" ? each.right === false : show === "right" ? each.right === true : show === "invalid" ? each.valid === false : true));
  const columns: Column<Prediction>[] = [
    { key: "id", title: "Row", number: false, value: (row) => row.id, cell: (row) => <Name text={row.id} /> },
    { key: "right", title: "Judged", value: (row) => (row.right === null ? null : row.right ? "right" : "wrong"), cell: (row) => <Verdict right={row.right} valid={row.valid} /> },
    ...(rows.some((each) => each.score !== null) ? [{ key: "score", title: "Score", number: true, value: (row: Prediction) => row.score, cell: (row: Prediction) => fixed(row.score, 2) }] : []),
    { key: "text", title: "Output", value: (row) => row.text, cell: (row) => <Block text={row.text} label={`Output of row ${short(row.id)}`} /> },
    { key: "references", title: "Reference", value: (row) => row.references.map(String).join(" | "), cell: (row) => <Block text={row.references.map(String).join("\n")} label={`Reference of row ${short(row.id)}`} /> },
    { key: "prompt", title: "Prompt", value: (row) => row.prompt, cell: (row) => (row.prompt === null ? <span class="none">not stored</span> : <details><summary><Words text={short(row.prompt, 40)} /></summary><Block text={row.prompt} label={`Prompt of row ${short(row.id)}`} /></details>) },
  ];
  const total = plural(file.predictions.rows, "row");
  return (
    <section>
      <h2>What it answered</h2>
      <div class="filters" role="group" aria-label="Which rows">
        {["all", "wrong", "right", "invalid"].map((each) => (
          <button key={each} type="button" class="quiet" aria-pressed={show === each} onClick={() => change(route, { show: each === "all" ? "" : each })}>{each === "all" ? "all" : `${each} only`}</button>
        ))}
      </div>
      {pages > 1 && <Pages name="predictions" page={page} pages={pages} what={total} />}
      {found === undefined ? <p class="none">Reading …</p> : found === null ? <p class="none">This page of predictions is not there.</p> : (
        <Table name="answers" caption={<>{plural(rows.length, "row")}{show === "all" ? "" : ` that ${rows.length === 1 ? "is" : "are"} ${show}`}, of {found.rows.length} on this page and {total} in all.</>} columns={columns} rows={rows} keyOf={(row) => String(row.id)} pageSize={25} empty="No such row on this page." />
      )}
    </section>
  );
}
