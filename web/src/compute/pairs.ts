/** Two runs on the same rows: matched by row id, counted by who is right. Pure. */
import type { Prediction } from "../types";

export type Verdict = "both right" | "only first" | "only second" | "both wrong" | "unknown";

export interface Pair {
  first: Prediction;
  second: Prediction;
  verdict: Verdict;
}

/** Rows that both have, in the order of the first; ids of one alone are counted. */
export function pairUp(first: readonly Prediction[], second: readonly Prediction[]): { pairs: Pair[]; alone: number } {
  const others = new Map(second.map((each) => [String(each.id), each]));
  const pairs: Pair[] = [];
  for (const each of first) {
    const other = others.get(String(each.id));
    if (other !== undefined) pairs.push({ first: each, second: other, verdict: verdictOf(each, other) });
  }
  return { pairs, alone: first.length + second.length - 2 * pairs.length };
}

function verdictOf(first: Prediction, second: Prediction): Verdict {
  if (first.right === null || second.right === null) return "unknown";
  if (first.right) return second.right ? "both right" : "only first";
  return second.right ? "only second" : "both wrong";
}

export function countVerdicts(pairs: readonly Pair[]): Record<Verdict, number> {
  const counts = { "both right": 0, "only first": 0, "only second": 0, "both wrong": 0, unknown: 0 };
  for (const each of pairs) counts[each.verdict]++;
  return counts;
}

/** Whether a reader would look at this row: the verdicts differ or, where there are none, the outputs do. */
export function differs(pair: Pair): boolean {
  if (pair.verdict === "unknown") return pair.first.text !== pair.second.text || pair.first.score !== pair.second.score;
  return pair.verdict === "only first" || pair.verdict === "only second";
}
