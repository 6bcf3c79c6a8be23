/** A score with its interval as a small dot and whisker, on the scale that all rows of a table share. */
import type { Interval as Range } from "../compute/standings";
import { usePage } from "./context";

export interface Scale {
  from: number;
  to: number;
}

/** A scale that holds all values, with round ends. */
export function scaleOver(values: readonly (number | null | undefined)[]): Scale {
  const known = values.filter((each): each is number => typeof each === "number" && Number.isFinite(each));
  if (known.length === 0) return { from: 0, to: 100 };
  const step = 5;
  const from = Math.floor(Math.min(...known) / step) * step;
  return { from, to: Math.max(from + step, Math.ceil(Math.max(...known) / step) * step) };
}

const WIDTH = 150;

export function Whisker({ value, range, scale, mark, colour }: { value: number | null; range: Range | null; scale: Scale; mark?: number | null; colour: string }) {
  const { colours } = usePage();
  if (value === null) return null;
  const x = (each: number) => 6 + ((each - scale.from) / (scale.to - scale.from)) * (WIDTH - 12);
  return (
    <svg class="whisker" width={WIDTH} height={20} viewBox={`0 0 ${WIDTH} 20`} aria-hidden="true">
      <line x1={6} x2={WIDTH - 6} y1={10} y2={10} stroke={colours.rule} />
      {typeof mark === "number" && <line x1={x(mark)} x2={x(mark)} y1={0} y2={20} stroke={colours.faint} stroke-dasharray="2 2" />}
      {range && (
        <g stroke={colour} stroke-width={2}>
          <line x1={x(range.low)} x2={x(range.high)} y1={10} y2={10} />
          <line x1={x(range.low)} x2={x(range.low)} y1={6} y2={14} />
          <line x1={x(range.high)} x2={x(range.high)} y1={6} y2={14} />
        </g>
      )}
      <circle cx={x(value)} cy={10} r={4.5} fill={colour} stroke={colours.page} />
    </svg>
  );
}
