/** The answer of a leaderboard in words. Pure; what it says follows from the standings alone. */
import type { Standing } from "./standings";
import { fixed } from "../numbers";
import { listed } from "../text";

export interface Answer {
  /** One sentence: who leads, and who cannot be told apart from it. */
  headline: string;
  /** What else a reader must know: how surely, and who is not in the order. */
  details: string[];
}

export function answer(
  standings: readonly Standing[],
  datasets: number,
  title: (method: string) => string,
  whyNoInterval: string | null,
): Answer {
  const ranked = standings.filter((each) => each.mean !== null);
  const refused = standings.filter((each) => each.mean === null);
  const details: string[] = [];
  if (refused.length > 0 && ranked.length > 0)
    details.push(`Not in the order, because a mean over missing cells would not be fair: ${listed(refused.map((each) => `${title(each.method)} (${each.missing.length} of ${datasets} missing)`))}.`);
  const best = ranked[0];
  if (datasets === 0) return { headline: "No dataset is left to compare on.", details: ["Take fewer filters, or allow datasets that not all methods have."] };
  if (best === undefined)
    return { headline: `No method has all ${datasets} datasets, so none leads.`, details: ["Take only datasets that all methods have, or make the missing runs."] };
  const score = `${fixed(best.mean)} of 100`;
  const name = title(best.method);
  const next = ranked[1];
  if (next === undefined) return { headline: `${name} scores ${score}; no other method can be compared with it.`, details };
  if (best.tier === null || next.behind === null) {
    details.unshift(`How surely cannot be said${whyNoInterval ? `: ${whyNoInterval}` : ""}.`);
    return { headline: `${name} has the highest mean, ${score}.`, details };
  }
  const tied = ranked.slice(1).filter((each) => each.tier === 1);
  const behind = ranked.find((each) => each.tier !== 1 && each.behind !== null);
  if (behind?.behind)
    details.unshift(`The next, ${title(behind.method)}, is ${pointsOf(behind.behind.estimate)} behind (95 % interval ${fixed(behind.behind.low)} to ${fixed(behind.behind.high)}).`);
  const headline = tied.length
    ? `${name} leads with ${score}; ${listed(tied.map((each) => title(each.method)))} cannot be told apart from it.`
    : `${name} leads with ${score}; every other method is behind by more than chance.`;
  return { headline, details };
}

function pointsOf(points: number): string {
  return `${fixed(points)} ${fixed(points) === "1.0" ? "point" : "points"}`;
}
