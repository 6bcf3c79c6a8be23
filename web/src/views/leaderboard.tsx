/** First screen: what is compared on what, the answer in words, then all methods with intervals and costs. */
import { useMemo } from "preact/hooks";
import { ALL, areaOf, choose, methodOrder, methodTitle } from "../choice";
import { answer } from "../compute/answer";
import { meanRate, ratesOf } from "../compute/rates";
import type { Standing } from "../compute/standings";
import { amount, COST_TITLES, explained, fixed, percent, unitFor } from "../numbers";
import { usePage } from "../parts/context";
import { Filters, sourceTitle } from "../parts/filters";
import { useGroup } from "../parts/group";
import { WhenNear } from "../parts/later";
import { scaleOver, Whisker } from "../parts/interval";
import { Table, type Column } from "../parts/table";
import { Name, Notice, Prose, Words } from "../parts/text";
import { change, link } from "../route";
import { listed, plural, short } from "../text";
import { looksOf } from "../theme";
import type { Cost, Group } from "../types";

const SHOWN_COSTS: Cost[] = ["trainable_params", "memory_bytes", "train_seconds"];
const MOST_GROUPS = 24;

export function Leaderboard() {
  const { index, route } = usePage();
  const { groups, group, model } = choose(index, route.query);
  const several = model.value === ALL;
  if (!group)
    return (
      <>
        <h1>No results yet</h1>
        <p>There is no finished run that could be compared. Make some with <code>peftbench run</code> or <code>peftbench grid run</code>, then build this page again.</p>
        <Notes />
      </>
    );
  return (
    <>
      <h1 class="hidden">Leaderboard of fine-tuning methods</h1>
      <Filters all />
      {(several ? groups.slice(0, MOST_GROUPS) : [group]).map((each, place) => place === 0 ? <Board key={each.id} group={each} />
        : <WhenNear key={each.id} words={<h2><Name text={each.label} /></h2>}><Board group={each} /></WhenNear>)}
      {several && groups.length > MOST_GROUPS && <Notice>{plural(groups.length - MOST_GROUPS, "more comparison")}: choose a model.</Notice>}
      <Notes />
    </>
  );
}

function Board({ group }: { group: Group }) {
  const { index, route } = usePage();
  const { asked, datasets, methods, standings, draws } = useGroup(group);
  const title = (method: string) => short(methodTitle(index, method), 60);
  const trained = methods.filter((each) => each !== "base").length;
  const areas = [...new Set(datasets.map((each) => areaOf(index, each)))];
  const { headline, details } = answer(standings, datasets.length, title, group.why_no_interval);
  return (
    <section class="board">
      <p class="lead">
        {plural(trained, "way", "ways")} to fine-tune <h2 class="inline"><Words text={short(group.label, 120)} /></h2>
        {methods.includes("base") && ", and the model as it is,"} compared on {plural(datasets.length, "dataset")}
        {areas.length > 0 && ` (${listed(areas)})`}{group.seeds.length > 0 && ` with ${plural(group.seeds.length, "seed")}`}.
        {group.source !== "measured" && <> Numbers from: <Words text={sourceTitle(group.source ?? "")} />.</>} Scores go from 0 to 100, higher is better.
      </p>
      {group.refused ? (
        <Notice kind="warning">These runs are not compared: <Prose text={group.refused} /></Notice>
      ) : (
        <>
          <p class="answer"><Words text={headline} /></p>
          {draws === undefined ? <p class="detail">Reading how sure the order is …</p> : details.map((each) => <p class="detail" key={each}><Words text={each} /></p>)}
          {(route.query.common === "1" || standings.some((each) => each.missing.length > 0)) && <Common group={group} asked={asked} datasets={datasets} />}
          <Standings group={group} datasets={datasets} standings={standings} />
          <p class="next">
            What does it cost? <a href={link(route, "pareto")}>Score against cost</a>, <a href={link(route, "pscp")}>PSCP</a>. Where
            does it come from? <a href={link(route, "heatmap")}>Every dataset</a>, <a href={link(route, "runs")}>every run</a>.
          </p>
        </>
      )}
    </section>
  );
}

/** The option to leave out datasets that some method lacks, and what it leaves out. */
function Common({ group, asked, datasets }: { group: Group; asked: string[]; datasets: string[] }) {
  const { route } = usePage();
  const on = route.query.common === "1";
  const left = asked.filter((each) => !datasets.includes(each));
  return (
    <p class="common">
      <label>
        <input type="checkbox" checked={on} onChange={() => change(route, { common: on ? "" : "1" })} /> Take only datasets that all methods have
      </label>
      {on && (
        <span class="block-line">{left.length === 0
          ? `All ${asked.length} have all ${group.methods.length > 1 ? "methods" : "runs"}: nothing is left out.`
          : `Compared on ${datasets.length} of ${asked.length}; left out for all methods: ${listed(left, 27)}.`}</span>
      )}
    </p>
  );
}

function Standings({ group, datasets, standings }: { group: Group; datasets: string[]; standings: Standing[] }) {
  const { index, route, colours } = usePage();
  const order = methodOrder(index);
  const rates = useMemo(() => ratesOf(index.records, "invalid_rate"), [index]);
  const scale = scaleOver(standings.flatMap((each) => [each.mean, each.interval?.low, each.interval?.high]));
  const best = standings[0]?.mean ?? null;
  const cost = (row: Standing, name: Cost) => (Object.hasOwn(group.costs, row.method) ? group.costs[row.method]?.[name] : null) ?? null;
  const costs = SHOWN_COSTS.filter((name) => standings.some((each) => cost(each, name) !== null));
  const invalid = (row: Standing) => meanRate(rates, group.id, row.method, datasets);
  const columns: Column<Standing>[] = [
    {
      key: "method", title: "Method", value: (row) => row.method,
      cell: (row) => (
        <span class="method">
          <Dot {...looksOf(order, row.method, colours)} />
          <a href={link(route, "method", [row.method])}><Name text={methodTitle(index, row.method)} /></a>
        </span>
      ),
    },
    {
      key: "mean", title: "Mean score", unit: "0–100", number: true, value: (row) => row.mean, help: "Mean over datasets of the mean over seeds.",
      cell: (row) => (row.mean === null ? <span class="refused">refused</span> : <strong>{fixed(row.mean)}</strong>),
      look: (row) => (row.mean === null ? "gap" : undefined),
    },
    {
      key: "interval", title: "95 % interval", unit: `${scale.from} to ${scale.to}`, sortable: false, help: "Test rows and seeds are resampled. The dashed line is the best mean.",
      value: (row) => (row.interval ? `${fixed(row.interval.low)} to ${fixed(row.interval.high)}` : null),
      cell: (row) => row.mean === null ? <MissingLink row={row} of={datasets.length} /> : (
        <span class="range">
          <Whisker value={row.mean} range={row.interval} scale={scale} mark={best} colour={looksOf(order, row.method, colours).colour} />
          <span class="figures">{row.interval ? `${fixed(row.interval.low)} to ${fixed(row.interval.high)}` : ""}</span>
        </span>
      ),
    },
    ...(standings.every((each) => each.tier === null) ? [] : [{
      key: "tier", title: "Tie group", number: true, value: (row: Standing) => row.tier,
      help: "1: the leader and all that cannot be told apart from it. 2: the best of the rest, and all that cannot be told apart from that; and so on.",
    }]),
    ...(standings.every((each) => invalid(each) === null) ? [] : [{ key: "invalid", title: "Invalid", unit: "%", number: true, value: invalid, cell: (row: Standing) => percent(invalid(row)), help: "Share of outputs that are no answer of the required form; they count as wrong." }]),
    ...costs.map((name): Column<Standing> => {
      const { title, kind } = COST_TITLES[name];
      const unit = unitFor(kind, standings.map((each) => cost(each, name)));
      return {
        key: name, title: title[0]!.toUpperCase() + title.slice(1), unit: unit.name, number: true, value: (row) => cost(row, name),
        cell: (row) => amount(cost(row, name), unit), help: explained(name, group.costs_of[name]),
      };
    }),
    {
      key: "missing", title: "Missing", unit: `of ${datasets.length}`, number: true, value: (row) => row.missing.length,
      cell: (row) => (row.missing.length ? <MissingLink row={row} of={datasets.length} /> : "0"), help: "Datasets that the method lacks, or of which a run is missing or failed.",
      look: (row) => (row.missing.length ? "gap" : undefined),
    },
  ];
  const byMean = !route.query["leaderboard.sort"] || route.query["leaderboard.sort"] === "-mean";
  const last = new Map<number, string>();
  for (const each of standings) if (each.tier !== null) last.set(each.tier, each.method);
  return (
    <Table name="leaderboard" columns={columns} rows={standings} keyOf={(row) => row.method} sort="-mean"
      caption={<Caption group={group} />} rowLook={(row) => (byMean && row.tier !== null && last.get(row.tier) === row.method ? "ends" : undefined)} />
  );
}

function Caption({ group }: { group: Group }) {
  return (
    <>
      Methods by mean score, protocol <Words text={group.protocol} />. {group.draws
        ? "Methods of one tie group cannot be told apart: the 95 % interval of their difference to its leader, drawn on the same test rows, holds 0."
        : group.why_no_interval ? <>No tie groups: <Prose text={group.why_no_interval} />.</> : "There are no draws, so that ties are not told."}
      {group.caution && <> <Prose text={group.caution} /></>}
    </>
  );
}

function MissingLink({ row, of }: { row: Standing; of: number }) {
  const { route } = usePage();
  return <a href={link(route, "heatmap")} title={`Missing or not complete: ${listed(row.missing, 27)}`}>{row.missing.length} of {of} missing</a>;
}

export function Dot({ colour, symbol }: { colour: string; symbol: string }) {
  const shapes: Record<string, string> = {
    circle: "M6 1a5 5 0 1 0 .01 0z", square: "M1.5 1.5h9v9h-9z", triangle: "M6 1 11 10.5H1z", diamond: "M6 0l5.5 6L6 12 .5 6z",
    star: "M6 0l1.6 4h4.2L8.400 6.700 9.700 11.300 6 8.600 2.300 11.300 3.600 6.700.2 4h4.200z", cross: "M4 1h4v3h3v4H8v3H4V8H1V4h3z", wye: "M4.300 11.500V7.300L.8 5.200 2.500 2.300 6 4.300 9.500 2.300l1.700 2.900-3.500 2.100v4.200z",
  };
  return <svg class="dot" width={12} height={12} viewBox="0 0 12 12" aria-hidden="true"><path d={shapes[symbol]} fill={colour} /></svg>;
}

function Notes() {
  const { index } = usePage();
  if (index.notes.length === 0) return null;
  return (
    <details class="notes">
      <summary>{plural(index.notes.length, "note")} on the records</summary>
      <ul>{index.notes.map((each) => <li key={each}><Prose text={each} /></li>)}</ul>
    </details>
  );
}
