/** All runs, chosen by the filters, in pages; each leads to its own page, and two can be set side by side. */
import { useMemo } from "preact/hooks";
import { read, readNumber, readText, valuesOf, where } from "../compute/records";
import { labelOf } from "../compute/rates";
import { areaOf, ALL } from "../choice";
import { fixed, percent, whole } from "../numbers";
import { usePage } from "../parts/context";
import { Select, sourceTitle } from "../parts/filters";
import { Table, type Column } from "../parts/table";
import { Name, Words } from "../parts/text";
import { change, link, list, unlist } from "../route";
import { plural } from "../text";

const FIELDS = ["source", "model", "protocol", "area", "dataset", "method", "status"] as const;

export function Runs() {
  const { index, route } = usePage();
  const { records } = index;
  const { query } = route;
  const asked = FIELDS.map((each) => query[each]).join("|");
  const rows = useMemo(() => {
    const datasets = list(query.dataset);
    const areas = list(query.area);
    const inArea = areas.length ? valuesOf(records, "dataset").filter((each) => areas.includes(areaOf(index, each))) : [];
    const both = datasets.length && inArea.length ? datasets.filter((each) => inArea.includes(each)) : [...datasets, ...inArea];
    const methods = new Set(list(query.method));
    const one = (text: string | undefined) => (text && text !== ALL ? [text] : []);
    const found = where(records, { source: one(query.source), model: one(query.model), protocol: one(query.protocol), dataset: both, status: one(query.status) });
    return methods.size === 0 ? found : found.filter((row) => methods.has(labelOf(records, row)) || methods.has(readText(records, "method", row)));
  }, [index, asked]);
  const text = (key: string, title: string): Column<number> => ({ key, title, value: (row) => read(records, key, row), cell: (row) => <Name text={readText(records, key, row)} /> });
  const columns: Column<number>[] = [
    { key: "method", title: "Method", value: (row) => labelOf(records, row), cell: (row) => <a href={link(route, "run", [readText(records, "key", row)])}><Name text={labelOf(records, row)} /></a> },
    text("model", "Model"),
    { key: "dataset", title: "Dataset", value: (row) => readText(records, "dataset", row), cell: (row) => <a href={link(route, "dataset", [readText(records, "dataset", row)])}><Name text={readText(records, "dataset", row)} /></a> },
    text("protocol", "Protocol"),
    { key: "seed", title: "Seed", number: true, value: (row) => readNumber(records, "seed", row) },
    { key: "score", title: "Score", unit: "0–100", number: true, value: (row) => readNumber(records, "score", row), cell: (row) => fixed(readNumber(records, "score", row), 2) },
    { key: "invalid_rate", title: "Invalid", unit: "%", number: true, value: (row) => readNumber(records, "invalid_rate", row), cell: (row) => percent(readNumber(records, "invalid_rate", row)) },
    { key: "trainable_params", title: "Trainable", number: true, value: (row) => readNumber(records, "trainable_params", row), cell: (row) => whole(readNumber(records, "trainable_params", row)) },
    { key: "train_seconds", title: "Training", unit: "s", number: true, value: (row) => readNumber(records, "train_seconds", row), cell: (row) => whole(readNumber(records, "train_seconds", row)) },
    { key: "status", title: "Status", value: (row) => readText(records, "status", row), cell: (row) => <><Words text={readText(records, "status", row)} />{read(records, "failure_reason", row) !== null && <>: <Words text={readText(records, "failure_reason", row)} /></>}</> },
  ];
  return (
    <>
      <h1>Every run</h1>
      <form class="filters" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
        {FIELDS.map((field) => {
          const options = field === "area" ? [...new Set(valuesOf(records, "dataset").map((each) => areaOf(index, each)))] : valuesOf(records, field);
          if (options.length < 2 && !query[field]) return null;
          const several = list(query[field]).length > 1;
          const value = several ? query[field]! : (field === "area" || field === "dataset" || field === "method" ? list(query[field])[0] : query[field]) ?? "";
          return (
            <Select key={field} label={field[0]!.toUpperCase() + field.slice(1)} of={{ value, options: ["", ...(several ? [value] : []), ...options.slice(0, 2000), ...(field === "model" && value === ALL ? [ALL] : [])] }}
              title={(each) => (each === "" || each === ALL ? "all" : several && each === value ? plural(list(value).length, field) : field === "source" ? sourceTitle(each) : each)}
              set={(next) => change(route, { [field]: field === "model" || field === "source" || field === "protocol" || field === "status" ? next : unlist(next ? [next] : []), "runs.page": "" })} />
          );
        })}
      </form>
      <Table name="runs" caption={<>{plural(rows.length, "run")} of {whole(records.count)}. A method's name leads to its run.</>} columns={columns} rows={rows} keyOf={(row) => String(row)} empty="No run has all of these; choose less." />
    </>
  );
}
