/** The Pareto front of score against cost: who is not beaten in both at once. Pure. */

export interface Point {
  cost: number;
  score: number;
}

/** For each point whether no other is at least as good in both and better in one. */
export function onFront(points: readonly Point[]): boolean[] {
  const order = points.map((_, place) => place);
  order.sort((a, b) => points[a]!.cost - points[b]!.cost || points[b]!.score - points[a]!.score);
  const front = new Array<boolean>(points.length).fill(false);
  let best = -Infinity;
  let at = NaN; // cost of the last point on the front: an equal point is on it too
  for (const place of order) {
    const { cost, score } = points[place]!;
    if (score > best || (score === best && cost === at)) {
      front[place] = true;
      [best, at] = [score, cost];
    }
  }
  return front;
}

/** Share of draws in which each point is on the front, its cost being fixed; null where one has no draws. */
export function frontShares(costs: readonly number[], draws: readonly (Float64Array | null)[]): number[] | null {
  const length = draws[0]?.length;
  if (length === undefined || draws.some((each) => each?.length !== length)) return null;
  const counts = new Array<number>(costs.length).fill(0);
  for (let draw = 0; draw < length; draw++) {
    const front = onFront(costs.map((cost, place) => ({ cost, score: draws[place]![draw]! })));
    front.forEach((each, place) => each && counts[place]!++);
  }
  return counts.map((each) => each / length);
}
