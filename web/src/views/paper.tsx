/** The paper's tables as printed, with what is known to be wrong with them beside. */
import { fixed } from "../numbers";
import { usePage } from "../parts/context";
import { Table, type Column } from "../parts/table";
import { Notice, Words } from "../parts/text";
import { link } from "../route";
import { plural, short } from "../text";
import { erratumTitle } from "./errata";
import type { PrintedTable, Value } from "../types";

export function Paper() {
  const { index, route } = usePage();
  return (
    <>
      <h1>The paper's tables, as printed</h1>
      <p>Nothing here was computed by this project. Where a mark stands beside a table, the <a href={link(route, "errata")}>errata</a> say what is known about its numbers.</p>
      {index.printed.length === 0 && <p class="none">No printed table came along.</p>}
      {index.printed.map((each) => <Printed key={each.name} table={each} />)}
    </>
  );
}

function Printed({ table }: { table: PrintedTable }) {
  const { index, route } = usePage();
  const rows = table.rows.map((cells, place) => ({ cells, place }));
  const isNumber = (column: number) => table.rows.some((row) => typeof row[column] === "number");
  // As many decimals as the column has, so that 91 stands as 91.0 among its neighbours, as in print.
  const digits = table.columns.map((_, column) => Math.max(0, ...table.rows.map((row) => decimals(row[column]))));
  const shown = (value: Value | undefined, column: number) => (typeof value === "number" ? fixed(value, digits[column]) : <Words text={value ?? "–"} />);
  const columns = table.columns.map((title, column): Column<(typeof rows)[number]> => ({
    key: String(column), title: <Words text={title} />, name: String(title), number: column > 0 && isNumber(column),
    value: (row) => row.cells[column], cell: (row) => shown(row.cells[column], column),
  }));
  return (
    <section>
      <h2><Words text={table.title} /></h2>
      {table.errata.length > 0 && (
        <Notice kind="warning">
          <details>
            <summary>{plural(table.errata.length, "erratum", "errata")} of the paper or its reference implementation {table.errata.length === 1 ? "concerns" : "concern"} this table</summary>
            <ul>{table.errata.map((id) => <li key={id}><a href={link(route, "errata", [id])}><Words text={short(erratumTitle(index, id), 120)} /></a></li>)}</ul>
          </details>
        </Notice>
      )}
      <Table name={table.name} caption="As printed in the paper." columns={columns} rows={rows} keyOf={(row) => String(row.place)} />
    </section>
  );
}

function decimals(value: Value | undefined): number {
  return typeof value === "number" ? Math.min(6, String(value).split(".")[1]?.length ?? 0) : 0;
}
