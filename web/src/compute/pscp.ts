/** PSCP, performance under soft penalties for cost, and where which method wins. Pure, as peftbench/penalty.py. */

export const PENALISED = ["trainable_params", "flops", "memory_bytes"] as const;
export type Penalised = (typeof PENALISED)[number];

export interface CostModel {
  /** The cost that halves a score at an exponent of 1. */
  references: Record<Penalised, number>;
  exponents: Record<Penalised, number>;
}

export interface Candidate {
  method: string;
  /** Mean score, 0 to 100. */
  performance: number;
  /** Unknown is null: it may be so only where its exponent is 0. */
  costs: Record<Penalised, number | null>;
  /** The same draw of rows at the same place in all candidates. */
  draws: Float64Array | null;
}

/** The factor in (0, 1] of one cost; a cost below 0, as fewer FLOPs than the base model, counts as 0. */
export function penalty(cost: number | null, reference: number, exponent: number): number {
  if (exponent === 0) return 1;
  return cost === null ? NaN : Math.pow(1 + Math.max(0, cost) / reference, -exponent);
}

/** The product of all penalties: what PSCP multiplies the performance by. */
export function weight(costs: Candidate["costs"], model: CostModel): number {
  return PENALISED.reduce(
    (product, name) => product * penalty(costs[name], model.references[name], model.exponents[name]),
    1,
  );
}

export function pscp(candidate: Candidate, model: CostModel): number {
  return candidate.performance * weight(candidate.costs, model);
}

/** Share of draws in which each candidate alone has the highest PSCP; null where one has no draws. */
export function winShares(candidates: readonly Candidate[], weights: readonly number[]): number[] | null {
  const table = drawTable(candidates);
  return table && sharesOf(table, weights);
}

/** All draws in one array, draw by draw, so that the map can go through them a thousand times. */
function drawTable(candidates: readonly Candidate[]): Float64Array | null {
  const length = candidates[0]?.draws?.length;
  if (length === undefined || candidates.some((each) => each.draws?.length !== length)) return null;
  const table = new Float64Array(length * candidates.length);
  candidates.forEach(({ draws }, place) => {
    for (let draw = 0; draw < length; draw++) table[draw * candidates.length + place] = draws![draw]!;
  });
  return table;
}

function sharesOf(table: Float64Array, weights: readonly number[]): number[] {
  const width = weights.length;
  const wins = new Array<number>(width).fill(0);
  for (let row = 0; row < table.length; row += width) {
    let best = -Infinity;
    let winner = -1;
    for (let place = 0; place < width; place++) {
      const score = table[row + place]! * weights[place]!;
      if (score > best) {
        best = score;
        winner = place;
      } else if (score === best) winner = -1;
    }
    if (winner >= 0) wins[winner]!++;
  }
  return wins.map((each) => (each * width) / table.length);
}

export interface MapPoint {
  x: number;
  y: number;
  /** Place of the winner among the candidates. */
  winner: number;
  /** Wins in at least 95 % of the draws; without draws, leads by at least 1 % of its score. */
  sure: boolean;
}

/** Who has the highest PSCP over the plane of two exponents, the third as the model has it. */
export function sensitivity(
  candidates: readonly Candidate[],
  model: CostModel,
  xName: Penalised,
  yName: Penalised,
  values: readonly number[],
): MapPoint[] {
  const points: MapPoint[] = [];
  const table = drawTable(candidates);
  for (const y of values)
    for (const x of values) {
      const here = { ...model, exponents: { ...model.exponents, [xName]: x, [yName]: y } };
      const weights = candidates.map((each) => weight(each.costs, here));
      const scores = candidates.map((each, place) => each.performance * weights[place]!);
      let winner = 0;
      let second = -Infinity;
      for (let place = 1; place < scores.length; place++) {
        if (scores[place]! > scores[winner]!) {
          second = Math.max(second, scores[winner]!);
          winner = place;
        } else second = Math.max(second, scores[place]!);
      }
      const shares = table && sharesOf(table, weights);
      const best = scores[winner]!;
      const sure = shares ? shares[winner]! >= 0.95 : candidates.length === 1 || best - second >= 0.01 * best;
      points.push({ x, y, winner, sure });
    }
  return points;
}
