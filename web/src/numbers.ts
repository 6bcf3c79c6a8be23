/** Numbers for people: digits, and one unit for a whole column so that its numbers can be compared. */
import type { Cost } from "./types";

export const NONE = "–";

const FIXED: Intl.NumberFormat[] = []; // by the number of digits: making one costs more than using it

export function fixed(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const words = (FIXED[digits] ??= new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })).format(value);
  return /^-0(\.0+)?$/.test(words) ? words.slice(1) : words;
}

export function whole(value: number | null | undefined): string {
  return fixed(value, 0);
}

/** A share, 0 to 1, as a percentage without its sign. */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return NONE;
  const value = 100 * share;
  return value > 0 && value < 1 ? "<1" : value < 100 && value > 99 ? ">99" : whole(value);
}

/** Three significant digits, whatever the magnitude. */
export function brief(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return value.toLocaleString("en", { maximumSignificantDigits: 3, notation: Math.abs(value) >= 1e6 ? "compact" : "standard" });
}

export interface Unit {
  name: string;
  size: number;
}

const UNITS: Record<"bytes" | "seconds" | "flops" | "joules" | "count" | "latency", Unit[]> = {
  bytes: [{ name: "GB", size: 1e9 }, { name: "MB", size: 1e6 }, { name: "kB", size: 1e3 }],
  seconds: [{ name: "h", size: 3600 }, { name: "min", size: 60 }, { name: "s", size: 1 }],
  latency: [{ name: "s", size: 1 }, { name: "ms", size: 1e-3 }],
  flops: [{ name: "TFLOP", size: 1e12 }, { name: "GFLOP", size: 1e9 }, { name: "MFLOP", size: 1e6 }],
  joules: [{ name: "kWh", size: 3.6e6 }, { name: "Wh", size: 3600 }, { name: "J", size: 1 }],
  count: [{ name: "", size: 1 }],
};

/** The largest unit in which the middle value is at least 1. */
export function unitFor(kind: keyof typeof UNITS, values: readonly (number | null | undefined)[]): Unit {
  const known = values.filter((each): each is number => typeof each === "number" && each !== 0).map(Math.abs).sort((a, b) => a - b);
  const middle = known[Math.floor(known.length / 2)] ?? 0;
  const units = UNITS[kind];
  return units.find((each) => middle >= each.size) ?? units.at(-1)!;
}

export const COST_TITLES: Record<Cost, { title: string; kind: keyof typeof UNITS; meaning: string }> = {
  trainable_params: { title: "trainable parameters", kind: "count", meaning: "Parameters that are trained." },
  adapter_bytes: { title: "adapter size", kind: "bytes", meaning: "Size of the stored adapter." },
  flops: { title: "extra FLOPs", kind: "flops", meaning: "Operations of one forward pass over those of the base model." },
  memory_bytes: { title: "peak memory", kind: "bytes", meaning: "Largest memory during training." },
  train_seconds: { title: "training time", kind: "seconds", meaning: "Wall time of training steps alone, mean over runs." },
  energy_joules: { title: "training energy", kind: "joules", meaning: "Energy of the training, mean over runs." },
  first_token_seconds: { title: "first token", kind: "latency", meaning: "From the prompt to the first answer token." },
  next_token_seconds: { title: "next token", kind: "latency", meaning: "Each further answer token." },
};

/** What a cost is, and how this one was had. */
export function explained(cost: Cost, how: string | undefined): string {
  const { meaning } = COST_TITLES[cost];
  return how ? `${meaning.slice(0, -1)} (${how}).` : meaning;
}

/** A cost in its unit: whole where the unit is 1 piece, otherwise three significant digits or so. */
export function amount(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) return NONE;
  const scaled = value / unit.size;
  if (unit.name === "") return whole(scaled);
  const size = Math.abs(scaled);
  return fixed(scaled, size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}
