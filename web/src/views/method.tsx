/** One method: what it is, its settings, what it costs, how it learns, how much its seed matters. */
import { dot, line, ruleX, text } from "@observablehq/plot";
import { choose, methodOrder, methodTitle } from "../choice";
import { readNumber, readText, where } from "../compute/records";
import { labelOf } from "../compute/rates";
import { cellOf } from "../compute/standings";
import { useFile, useFiles } from "../data";
import { amount, COST_TITLES, explained, fixed, unitFor } from "../numbers";
import { usePage } from "../parts/context";
import { Figure } from "../parts/figure";
import { Filters, Select } from "../parts/filters";
import { useGroup } from "../parts/group";
import { Table } from "../parts/table";
import { Notice, Prose, Words } from "../parts/text";
import { change, link } from "../route";
import { listed, plural, short } from "../text";
import { looksOf } from "../theme";
import { COSTS, type Group, type MethodFile, type RunFile } from "../types";

const MOST_CURVES = 12;

export function MethodView() {
  const { index, route } = usePage();
  const label = route.parts[0] ?? "";
  const name = Object.hasOwn(index.methods, label) ? label : label.replace(/\(.*$/s, "");
  const known = Object.hasOwn(index.methods, name) ? index.methods[name]! : null;
  const file = useFile<MethodFile>(known ? `method/${known.file ?? name}` : null);
  const { group } = choose(index, route.query);
  const shown = useGroup(group);
  const standing = shown.standings.find((each) => each.method === label);
  return (
    <>
      <p class="crumbs"><a href={link(route, "leaderboard")}>Leaderboard</a> / method</p>
      <h1><Words text={methodTitle(index, label)} />{label !== methodTitle(index, label) && <> <code><Words text={label} /></code></>}</h1>
      {file && <p><Prose text={file.description} /></p>}
      {known && <p class="detail">Family: <Words text={known.family} />.{known.variant_of && <> Variant of <a href={link(route, "method", [known.variant_of])}><Words text={known.variant_of} /></a>.</>}{file?.source && <> Source: <Words text={file.source} />.</>}{file?.trainable && <> Trained: <Words text={file.trainable} />.</>}</p>}
      {!known && !group?.methods.includes(label) && <Notice kind="warning">No method of that name is known here.</Notice>}
      {file && file.settings.length > 0 && (
        <>
          <h2>Settings</h2>
          <Table name="settings" caption="Settings with their defaults." rows={file.settings} keyOf={(row) => row.name} columns={[
            { key: "name", title: "Setting", value: (row) => row.name, cell: (row) => <code><Words text={row.name} /></code> },
            { key: "value", title: "Default", value: (row) => row.value, cell: (row) => <Words text={row.value} /> },
            { key: "meaning", title: "Meaning", value: (row) => row.meaning, cell: (row) => <Prose text={row.meaning} /> },
          ]} />
        </>
      )}
      <h2>On a model</h2>
      <Filters parts={["area", "dataset"]} />
      {group && (
        <>
          <p>
            {standing?.mean != null ? <>Mean score <strong>{fixed(standing.mean)}</strong>{standing.interval && ` (95 % interval ${fixed(standing.interval.low)} to ${fixed(standing.interval.high)})`} over {plural(shown.datasets.length, "dataset")}.</>
              : standing ? <>No mean: {standing.missing.length} of {shown.datasets.length} missing.</> : <>This method has no runs on this model.</>}{" "}
            <a href={link(route, "runs", [], { method: label })}>Its runs</a>
          </p>
          <div class="facing">
            <CostsTable group={group} label={label} />
            <Stability group={group} label={label} datasets={shown.datasets} />
          </div>
          <Curves group={group} label={label} datasets={shown.datasets} />
        </>
      )}
    </>
  );
}

function CostsTable({ group, label }: { group: Group; label: string }) {
  const costs = (Object.hasOwn(group.costs, label) && group.costs[label]) || {};
  const rows = COSTS.filter((each) => typeof costs[each] === "number").map((name) => {
    const unit = unitFor(COST_TITLES[name].kind, [costs[name]]);
    return { name, title: COST_TITLES[name].title, value: costs[name]!, words: `${amount(costs[name], unit)} ${unit.name}`, how: explained(name, group.costs_of[name]) };
  });
  return (
    <section>
      <h3>Costs</h3>
      <Table name="costs" caption="What the method costs, and how that was had." rows={rows} keyOf={(row) => row.name} empty="No cost is known." columns={[
        { key: "title", title: "Cost", value: (row) => row.title },
        { key: "value", title: "Amount", number: true, value: (row) => row.value, cell: (row) => row.words },
        { key: "how", title: "How", value: (row) => row.how, cell: (row) => <Prose text={row.how} /> },
      ]} />
    </section>
  );
}

/** Standard deviation over seeds on each dataset, the other methods beside. */
function Stability({ group, label, datasets }: { group: Group; label: string; datasets: string[] }) {
  const { index, colours } = usePage();
  const own = datasets.flatMap((dataset) => {
    const sd = cellOf(group, dataset, label)?.sd;
    return typeof sd === "number" ? [{ dataset, sd }] : [];
  });
  if (own.length === 0) return <section><h3>How much the seed matters</h3><p class="none">No dataset has two seeds of this method, so that it cannot be said.</p></section>;
  const others = own.flatMap(({ dataset }) => group.methods.slice(0, 40).flatMap((method) => {
    const sd = method === label ? null : cellOf(group, dataset, method)?.sd;
    return typeof sd === "number" ? [{ dataset, sd }] : [];
  }));
  const mean = own.reduce((sum, each) => sum + each.sd, 0) / own.length;
  const order = [...own].sort((a, b) => b.sd - a.sd).map((each) => each.dataset);
  const colour = looksOf(methodOrder(index), label, colours).colour;
  return (
    <section>
      <Figure name={`stability-${label}`} title="How much the seed matters: standard deviation over seeds" when={[group.id, label, order.join()]}
        description={`Standard deviation over seeds, points: ${listed(order.map((each) => `${each} ${fixed(own.find((row) => row.dataset === each)!.sd, 2)}`), 30)}.`}
        draw={() => ({
          height: 50 + 17 * order.length, marginLeft: 110, x: { grid: true, label: "standard deviation, points", zero: true }, y: { domain: order, label: null, tickSize: 0, tickFormat: (each: string) => short(each, 16) },
          marks: [
            dot(others, { x: "sd", y: "dataset", r: 2.5, fill: colours.faint, fillOpacity: 0.45 }),
            ruleX([mean], { stroke: colour, strokeDasharray: "4 3" }),
            dot(own, { x: "sd", y: "dataset", r: 5, fill: colour, stroke: colours.page }),
          ],
        })}>
        <p class="detail">Mean {fixed(mean, 2)} (dashed). Small grey dots: the other methods. Few seeds tell a standard deviation only roughly.</p>
      </Figure>
    </section>
  );
}

function Curves({ group, label, datasets }: { group: Group; label: string; datasets: string[] }) {
  const { index, route, colours } = usePage();
  const { records } = index;
  const rows = where(records, { group: [group.id] }).filter((row) => labelOf(records, row) === label);
  const possible = datasets.filter((each) => rows.some((row) => readText(records, "dataset", row) === each));
  const dataset = possible.find((each) => each === route.query.curve) ?? possible[0];
  const keys = rows.filter((row) => readText(records, "dataset", row) === dataset).slice(0, MOST_CURVES).map((row) => ({ key: readText(records, "key", row), seed: readNumber(records, "seed", row) }));
  const files = useFiles<RunFile>(keys.map((each) => `run/${each.key}`));
  if (dataset === undefined) return null;
  const points = files.flatMap((file, place) => (file?.curve ?? []).map((each) => ({ ...each, seed: `seed ${keys[place]!.seed}` })));
  const looks = (seed: string) => colours.series[keys.findIndex((each) => `seed ${each.seed}` === seed) % 7]!;
  return (
    <section>
      <h2>How it learns</h2>
      <div class="filters"><Select label="Dataset" of={{ value: dataset, options: possible }} set={(value) => change(route, { curve: value })} /></div>
      {points.length === 0 ? <p class="none">{files.includes(undefined) ? "Reading …" : "No loss curve: this was not trained, or its curve is not part of this page."}</p> : (
        <LossCurve name={`curves-${label}-${dataset}`} points={points} by={(each) => each.seed} colour={looks} when={[keys.map((each) => each.key).join(), points.length]}
          title={<>Loss by training step on <Words text={dataset} /></>} />
      )}
      <p>{keys.map((each, place) => <span key={each.key}>{place > 0 && ", "}<a href={link(route, "run", [each.key])}>run with seed {each.seed}</a></span>)}</p>
    </section>
  );
}

interface LossPoint {
  step: number;
  loss: number | null;
  validation_loss?: number | null;
}

/** Training loss thin, validation loss thick; one colour and a label at the end for each run. */
export function LossCurve<Point extends LossPoint>({ name, title, points, by, colour, when }: { name: string; title: preact.ComponentChildren; points: Point[]; by: (point: Point) => string; colour: (name: string) => string; when: unknown[] }) {
  const { colours } = usePage();
  const names = [...new Set(points.map(by))];
  const ends = names.map((each) => points.filter((point) => by(point) === each).at(-1)!);
  const validated = points.some((each) => typeof each.validation_loss === "number");
  const last = (point: Point) => point.validation_loss ?? point.loss;
  return (
    <Figure name={name} title={title} when={when}
      description={`Loss from ${points[0]!.step} to ${Math.max(...points.map((each) => each.step))} steps. At the end: ${listed(ends.map((each) => `${by(each)} ${fixed(last(each), 3)}`), 12)}.`}
      draw={() => ({
        height: 320, marginLeft: 48, marginRight: 90, marginBottom: 36, x: { label: "step →", grid: true }, y: { label: "↑ loss", grid: true },
        marks: [
          line(points, { x: "step", y: "loss", z: by, stroke: (each: Point) => colour(by(each)), ...(validated ? { strokeWidth: 1, strokeOpacity: 0.7, strokeDasharray: "4 2" } : { strokeWidth: 2 }) }),
          line(points.filter((each) => typeof each.validation_loss === "number"), { x: "step", y: "validation_loss", z: by, stroke: (each: Point) => colour(by(each)), strokeWidth: 2.2 }),
          text(spread(ends.map((point) => ({ point, y: last(point) ?? 0 })), points), { x: (each) => each.point.step, y: "y", text: (each) => short(by(each.point), 14), dx: 8, textAnchor: "start", fill: colours.text }),
        ],
      })}>
      <p class="detail">{validated ? "Dashed: training loss. Solid: validation loss." : "Training loss."}</p>
    </Figure>
  );
}

/** Labels at the ends of lines, moved apart where they would lie on one another. */
function spread<Point extends LossPoint>(labels: { point: Point; y: number }[], points: Point[]): { point: Point; y: number }[] {
  const values = points.flatMap((each) => [each.loss, each.validation_loss]).filter((each): each is number => typeof each === "number");
  const least = (Math.max(...values) - Math.min(...values)) * 0.055;
  const ordered = [...labels].sort((a, b) => a.y - b.y);
  for (let place = 1; place < ordered.length; place++) ordered[place]!.y = Math.max(ordered[place]!.y, ordered[place - 1]!.y + least);
  return ordered;
}

