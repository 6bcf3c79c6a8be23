/** What runs now, while the folder is served: grids, and each run with its loss so far. */
import { useFile } from "../data";
import { usePage } from "../parts/context";
import { Name, Notice, Words } from "../parts/text";
import { whole } from "../numbers";
import { plural, short } from "../text";
import type { LiveFile } from "../types";
import { LossCurve } from "./method";

export function Live() {
  const { index, colours } = usePage();
  const live = useFile<LiveFile>(index.live ? "live" : null);
  if (!index.live) return <><h1>Runs in progress</h1><p>This page is a folder made at <Words text={index.made_at} />. <code>peftbench site serve</code> shows what runs now.</p></>;
  return (
    <>
      <h1>Runs in progress</h1>
      {live === undefined && <p class="none">Reading …</p>}
      {live === null && <Notice kind="warning">The server does not say what runs.</Notice>}
      {live && (
        <>
          <p class="detail" role="status">State of <time dateTime={live.at}>{short(live.at.slice(0, 19).replace("T", " "))}</time>, read again every three seconds.</p>
          {live.grids.map((each) => (
            <section key={each.name}>
              <h2>Grid <Name text={each.name} /></h2>
              <p>{each.total !== null && <progress value={each.done + each.failed} max={Math.max(1, each.total)} aria-label={`Progress of grid ${short(each.name)}`} />} {whole(each.done)}{each.total !== null && ` of ${plural(each.total, "cell")}`} done, {whole(each.running)} running{each.waiting !== null && `, ${whole(each.waiting)} waiting`}{each.failed > 0 && <>, <strong class="refused">{whole(each.failed)} failed</strong></>}</p>
            </section>
          ))}
          {live.runs.length === 0 && <p>Nothing runs at the moment.</p>}
          <div class="facing">
            {live.runs.slice(0, 24).map((each) => (
              <section key={each.cell}>
                <h3><Words text={each.method} /> on <Words text={each.dataset} />{each.seed !== null && `, seed ${each.seed}`}</h3>
                <p class="detail"><Name text={each.model} />: <Words text={each.phase} />{each.step !== null && `, step ${whole(each.step)}`}{each.steps !== null && ` of ${whole(each.steps)}`}</p>
                {each.step !== null && each.steps !== null && <progress value={each.step} max={Math.max(1, each.steps)} aria-label={`Progress of ${short(each.method)} on ${short(each.dataset)}`} />}
                {each.curve.length > 1 && (
                  <LossCurve name={`live-${each.cell}`} title="Loss so far" points={each.curve.map(([step, loss]) => ({ step, loss }))} by={() => "loss"} colour={() => colours.series[0]!} when={[each.curve.length, each.curve.at(-1)?.[1]]} />
                )}
              </section>
            ))}
          </div>
        </>
      )}
    </>
  );
}
