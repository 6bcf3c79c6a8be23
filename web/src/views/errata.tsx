/** What the reference implementation and the paper have wrong, and what is done here. */
import { useEffect } from "preact/hooks";
import { usePage } from "../parts/context";
import { Prose, Words } from "../parts/text";
import { link } from "../route";
import { short } from "../text";

const HEADS = ["the reference", "here", "the difference"];

export function Errata() {
  const { index, route } = usePage();
  const asked = route.parts[0];
  useEffect(() => {
    const place = index.errata.findIndex((each) => each.id === asked);
    if (place >= 0) document.getElementById(`erratum-${place}`)?.scrollIntoView();
  }, [asked]);
  return (
    <>
      <h1>Errata of the paper and its reference implementation</h1>
      {index.errata.length === 0 && <p class="none">No errata came along.</p>}
      {index.errata.length > 1 && <nav aria-label="Errata"><ul>{index.errata.map((each) => <li key={each.id}><a href={link(route, "errata", [each.id])}><Words text={each.title} /></a></li>)}</ul></nav>}
      {index.errata.map((each, place) => {
        const width = Math.max(0, ...each.rows.map((row) => row.length));
        const heads = width > HEADS.length ? ["what", ...HEADS].slice(0, width) : HEADS.slice(0, width);
        return (
          <section key={each.id} id={`erratum-${place}`} aria-label={short(each.title, 80)}>
            <h2><Words text={each.title} /></h2>
            {each.paragraphs.map((text) => <p key={text}><Prose text={text} /></p>)}
            {each.rows.length > 0 && (
              <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${short(each.title, 80)}`}>
                <table class="prose">
                  <caption class="hidden"><Words text={each.title} /></caption>
                  <thead><tr>{heads.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>
                  <tbody>
                    {each.rows.map((row, line) => (
                      <tr key={line}>{heads.map((_, column) => (column === 0 ? <th key={column} scope="row"><Prose text={row[column]} /></th> : <td key={column}><Prose text={row[column]} /></td>))}</tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
          </section>
        );
      })}
    </>
  );
}
