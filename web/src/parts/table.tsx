/** A table that can be sorted by any column, paged and downloaded. Its state is in the address. */
import type { ComponentChildren } from "preact";
import { csv } from "../csv";
import { saveCsv } from "../download";
import { change } from "../route";
import { short, plural } from "../text";
import type { Value } from "../types";
import { usePage } from "./context";

export interface Column<Row> {
  key: string;
  title: ComponentChildren;
  /** The title in words where it is not a text. */
  name?: string;
  unit?: string;
  help?: string;
  /** Numbers are set right and sorted downwards first. */
  number?: boolean;
  /** What is sorted and written to CSV. */
  value: (row: Row) => Value | undefined;
  cell?: (row: Row) => ComponentChildren;
  /** Class of a cell. */
  look?: (row: Row) => string | undefined;
  sortable?: boolean;
}

interface Props<Row> {
  /** Name of its state in the address and of the file. */
  name: string;
  caption: ComponentChildren;
  /** Words for those who hear the page, where the caption is hidden. */
  columns: Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** A column to begin with, `-` in front for downwards; without, the order given. */
  sort?: string;
  pageSize?: number;
  rowLook?: (row: Row) => string | undefined;
  empty?: ComponentChildren;
}

export function compare(a: Value | undefined, b: Value | undefined): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Rows by a column; what is unknown comes last in both directions. */
export function sorted<Row>(rows: readonly Row[], value: (row: Row) => Value | undefined, down: boolean): Row[] {
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  keyed.sort((a, b) => {
    if (a.key == null || b.key == null) return Number(a.key == null) - Number(b.key == null);
    return down ? compare(b.key, a.key) : compare(a.key, b.key);
  });
  return keyed.map((each) => each.row);
}

export function Table<Row>({ name, caption, columns, rows, keyOf, sort = "", pageSize = 50, rowLook, empty }: Props<Row>) {
  const { route } = usePage();
  const state = route.query[`${name}.sort`] ?? sort;
  const down = state.startsWith("-");
  const by = columns.find((each) => each.key === state.replace(/^-/, ""));
  const ordered = by ? sorted(rows, by.value, down) : rows;
  const pages = Math.max(1, Math.ceil(rows.length / pageSize));
  const page = Math.min(pages, Math.max(1, Number.parseInt(route.query[`${name}.page`] ?? "1", 10) || 1));
  const shown = pages > 1 ? ordered.slice((page - 1) * pageSize, page * pageSize) : ordered;
  const download = () =>
    saveCsv(name, csv(columns.map((each) => nameOf(each) + (each.unit ? ` (${each.unit})` : "")), ordered.map((row) => columns.map((each) => each.value(row)))));
  if (rows.length === 0) return <p class="none">{empty ?? "Nothing to show here."}</p>;
  return (
    <div class="table">
      <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${short(name.replaceAll("-", " "), 80)}`}>
        <table>
          <caption><span class="stay">{caption}</span></caption>
          <thead>
            <tr>
              {columns.map((each) => {
                const here = by === each;
                const next = here ? (down ? each.key : `-${each.key}`) : each.number ? `-${each.key}` : each.key;
                const arrow = <span class="arrow" aria-hidden="true">{here ? (down ? "▼" : "▲") : ""}</span>;
                const head = <>{each.title}{each.sortable !== false && here && arrow}{each.unit && <span class="unit">{each.unit}</span>}</>;
                return (
                  <th key={each.key} scope="col" class={each.number ? "number" : undefined} title={each.help}
                    aria-sort={here ? (down ? "descending" : "ascending") : undefined}>
                    {each.sortable === false ? head : (
                      <button type="button" class="sort" onClick={() => change(route, { [`${name}.sort`]: next, [`${name}.page`]: "" })}>
                        {head}
                      </button>
                    )}
                  </th>
                );
              })}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={keyOf(row)} class={rowLook?.(row)}>
                {columns.map((each, place) => {
                  const look = [each.number ? "number" : "", each.look?.(row) ?? ""].join(" ").trim() || undefined;
                  const content = each.cell ? each.cell(row) : (each.value(row) ?? "–");
                  return place === 0 ? <th key={each.key} scope="row" class={look}>{content}</th> : <td key={each.key} class={look}>{content}</td>;
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div class="tools">
        {pages > 1 && <Pages name={name} page={page} pages={pages} what={plural(rows.length, "row")} />}
        <button type="button" class="quiet" onClick={download} aria-label={`Download the table ${short(name.replaceAll("-", " "), 80)} as CSV`}>CSV</button>
      </div>
    </div>
  );
}

function nameOf<Row>(column: Column<Row>): string {
  return column.name ?? (typeof column.title === "string" ? column.title : column.key);
}

export function Pages({ name, page, pages, what }: { name: string; page: number; pages: number; what: string }) {
  const { route } = usePage();
  const go = (to: number) => change(route, { [`${name}.page`]: to === 1 ? "" : String(to) });
  return (
    <nav class="pages" aria-label={`Pages of ${short(name)}`}>
      <button type="button" class="quiet" disabled={page <= 1} onClick={() => go(page - 1)}>Previous</button>
      <span>page {page} of {pages}, {what}</span>
      <button type="button" class="quiet" disabled={page >= pages} onClick={() => go(page + 1)}>Next</button>
    </nav>
  );
}
