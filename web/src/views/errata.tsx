/** What the reference implementation and the paper have wrong, and what is done here. */
import { useEffect } from "preact/hooks";
import { usePage } from "../parts/context";
import { Prose, Words } from "../parts/text";
import { link } from "../route";
import type { Index } from "../types";
import { short } from "../text";

/** Title of an erratum or of one of its rows; the id itself where there is none. */
export function erratumTitle(index: Index, id: string): string {
  const own = index.errata.find((each) => each.id === id);
  if (own) return own.title;
  for (const each of index.errata) {
    const row = each.rows[(each.ids ?? []).indexOf(id)];
    if (row) return `${each.title}: ${row[0] ?? id}`;
  }
  return id;
}

export function Errata() {
  const { index, route } = usePage();
  const asked = route.parts[0];
  useEffect(() => {
    document.querySelector(".asked")?.scrollIntoView({ block: "center" });
  }, [asked]);
  return (
    <>
      <h1>Errata of the paper and its reference implementation</h1>
      {index.errata.length === 0 && <p class="none">No errata came along.</p>}
      {index.errata.length > 1 && <nav aria-label="Errata"><ul>{index.errata.map((each) => <li key={each.id}><a href={link(route, "errata", [each.id])}><Words text={each.title} /></a></li>)}</ul></nav>}
      {index.errata.map((each) => (
          <section key={each.id} class={each.id === asked ? "asked" : undefined} aria-label={short(each.title, 80)}>
            <h2><Words text={each.title} /></h2>
            {each.paragraphs.map((text) => <p key={text}><Prose text={text} /></p>)}
            {each.rows.length > 0 && (
              <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${short(each.title, 80)}`}>
                <table class="prose">
                  <caption class="hidden"><Words text={each.title} /></caption>
                  <thead><tr>{(each.columns ?? []).map((head) => <th key={head} scope="col"><Words text={head} /></th>)}</tr></thead>
                  <tbody>
                    {each.rows.map((row, line) => (
                      <tr key={line} class={asked && each.ids?.[line] === asked ? "asked" : undefined}>{(each.columns ?? []).map((_, column) => (column === 0 ? <th key={column} scope="row"><Prose text={row[column]} /></th> : <td key={column}><Prose text={row[column]} /></td>))}</tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
          </section>
      ))}
    </>
  );
}
