/** Which runs are looked at: source, model, protocol, areas, datasets, methods. Every choice is in the address. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { areaOf, choose, ALL, type Options } from "../choice";
import { change, list, unlist } from "../route";
import { plural, short, visible } from "../text";
import { usePage } from "./context";
import { Name } from "./text";

const SOURCES: Record<string, string> = {
  measured: "measured here",
  paper: "paper, as printed",
  "hf-method-comparison": "Hugging Face PEFT comparison",
  "peft-factory": "PEFT-Factory",
  "lm-eval": "lm-evaluation-harness",
};

export function sourceTitle(source: string): string {
  return Object.hasOwn(SOURCES, source) ? SOURCES[source]! : source;
}

/** `all` offers all models at once; `parts` says which of the lists to offer. */
interface FiltersProps {
  all?: boolean;
  parts?: ("area" | "dataset" | "method")[];
  /** Not the runs but a table that came along: only what the view adds is offered. */
  off?: boolean;
  /** What else the view lets one choose. */
  children?: ComponentChildren;
}

export function Filters({ all = false, parts = ["area", "dataset", "method"], off = false, children }: FiltersProps) {
  const { index, route } = usePage();
  const choice = choose(index, route.query);
  const { group, groups } = choice;
  const datasets = [...new Set(groups.flatMap((each) => each.datasets))];
  const areas = [...new Set(datasets.map((each) => areaOf(index, each)))];
  const methods = [...new Set(groups.flatMap((each) => each.methods))];
  const set = (name: string) => (value: string) => change(route, { [name]: value, ...(name === "model" || name === "source" ? { group: "" } : {}) });
  return (
    <form class="filters" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
      {!off && <>
      {choice.source.options.length > 1 && <Select label="Source" of={choice.source} set={set("source")} title={sourceTitle} />}
      <Select label="Model" of={all && choice.model.options.length > 1 ? { ...choice.model, options: [...choice.model.options, ALL] } : choice.model}
        set={set("model")} title={(each) => (each === ALL ? "all models" : each)} />
      {choice.protocol.options.length > 1 && <Select label="Protocol" of={choice.protocol} set={set("protocol")} />}
      {groups.length > 1 && choice.model.value !== ALL && (
        <Select label="Comparison" of={{ value: group?.id ?? "", options: groups.map((each) => each.id) }} set={set("group")}
          title={(id) => describe(groups.find((each) => each.id === id)!)} />
      )}
      {parts.includes("area") && areas.length > 1 && <Several label="Areas" one="area" name="area" options={areas} />}
      {parts.includes("dataset") && datasets.length > 1 && <Several label="Datasets" one="dataset" name="dataset" options={datasets} />}
      {parts.includes("method") && methods.length > 1 && <Several label="Methods" one="method" name="method" options={methods} />}
      </>}
      {children}
      {!off && ["area", "dataset", "method"].some((each) => route.query[each]) && (
        <button type="button" class="quiet" onClick={() => change(route, { area: "", dataset: "", method: "" })}>Clear</button>
      )}
    </form>
  );
}

function describe(group: { label: string; datasets: string[]; seeds: number[]; id: string }): string {
  return `${group.label}, ${plural(group.datasets.length, "dataset")}, ${plural(group.seeds.length, "seed")}, ${group.id}`;
}

export function Select({ label, of, set, title = (each) => each }: { label: string; of: Options; set: (value: string) => void; title?: (value: string) => string }) {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={of.value} onChange={(event) => set(event.currentTarget.value)}>
        {of.options.map((each) => <option key={each} value={each} selected={each === of.value}>{short(title(each), 60)}</option>)}
      </select>
    </label>
  );
}

const MOST = 200;

/** Any number of a list; none chosen means all. */
function Several({ label, one, name, options }: { label: string; one: string; name: string; options: string[] }) {
  const { route } = usePage();
  const chosen = list(route.query[name]);
  const toggle = (each: string) =>
    change(route, { [name]: unlist(chosen.includes(each) ? chosen.filter((other) => other !== each) : [...chosen, each]) });
  const summary = chosen.length === 0 ? "all" : chosen.length === 1 ? short(chosen[0], 24) : plural(chosen.length, one);
  // With very many the chosen ones come first, so that none is out of reach.
  const shown = options.length > MOST ? [...chosen, ...options.filter((each) => !chosen.includes(each))].slice(0, MOST) : options;
  const place = useRef<HTMLDetailsElement>(null);
  const close = () => {
    place.current!.open = false;
    place.current!.querySelector("summary")!.focus();
  };
  useEffect(() => {
    const outside = (event: Event) => {
      if (place.current && !place.current.contains(event.target as Node)) place.current.open = false;
    };
    for (const kind of ["pointerdown", "focusin"]) document.addEventListener(kind, outside);
    return () => ["pointerdown", "focusin"].forEach((kind) => document.removeEventListener(kind, outside));
  }, []);
  return (
    <div class="field">
      <span id={`label-${name}`}>{label}</span>
      <details class="several" name="filter" ref={place} onKeyDown={(event) => event.key === "Escape" && close()}>
        <summary aria-label={`${label}: ${visible(summary)}`}>{summary}</summary>
        <fieldset>
          <legend class="hidden">{label}</legend>
          {shown.map((each) => (
            <label key={each}>
              <input type="checkbox" checked={chosen.includes(each)} onChange={() => toggle(each)} /> <Name text={each} />
            </label>
          ))}
          {options.length > MOST && <p class="none">{plural(options.length - MOST, "more")}; type its name into the address</p>}
        </fieldset>
      </details>
    </div>
  );
}
