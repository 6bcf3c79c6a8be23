/** The data files of the page, as Python writes them. Unknown is null, never 0. Text is as hostile as its source. */

export type Value = string | number | boolean | null;

export interface TextColumn {
  values: string[];
  /** Place in `values` for each record; -1 for none. */
  codes: number[];
}

export interface Cell {
  estimate: number | null;
  low: number | null;
  high: number | null;
  seeds: number;
  sd: number | null;
  rows: number | null;
  /** Runs that are not there, in words. */
  missing: string[];
  /** Runs that failed, in words. */
  failed: string[];
}

export const COSTS = [
  "trainable_params", "adapter_bytes", "flops", "memory_bytes", "train_seconds", "energy_joules",
  "first_token_seconds", "next_token_seconds",
] as const;
export type Cost = (typeof COSTS)[number];
export type Costs = Partial<Record<Cost, number | null>>;

/** Runs of one model under one protocol on the same rows: what may be compared. */
export interface Group {
  id: string;
  model: string;
  label: string;
  protocol: string;
  datasets: string[];
  methods: string[];
  seeds: number[];
  cells: Record<string, Record<string, Cell>>;
  why_no_interval: string | null;
  refused: string | null;
  draws: boolean;
  costs: Record<string, Costs>;
  costs_of: Partial<Record<Cost, string>>;
  /** Means over all the group's datasets of the methods that have them all, with intervals. */
  means?: Record<string, { estimate: number; low: number | null; high: number | null }>;
  /** What the intervals do not say. */
  caution?: string | null;
  /** Added by the page: "measured", or the import that the numbers come from. */
  source?: string;
}

export interface CostTable {
  name: string;
  title: string;
  source: string;
  methods: {
    method: string;
    performance: number | null;
    standard_error: number | null;
    trainable_params: number | null;
    /** Over those of the base model. */
    flops: number | null;
    memory_bytes: number | null;
  }[];
  base: number | null;
  errata: string[];
}

export interface PrintedTable {
  name: string;
  title: string;
  columns: Value[];
  rows: Value[][];
  errata: string[];
}

export interface Dataset {
  name: string;
  title?: string | null;
  area: string | null;
  task: string | null;
  metric: string | null;
  metric_title: string | null;
  test_rows: number | null;
  labels: string[] | null;
  /** Safe name of its file, where that is not its name. */
  file?: string;
}

export interface Method {
  name: string;
  title: string;
  family: string;
  variant_of: string | null;
  /** Safe name of its file, where that is not its name. */
  file?: string;
}

export interface Erratum {
  id: string;
  title: string;
  paragraphs: string[];
  columns: string[];
  rows: Value[][];
  /** Id of each row, that printed tables refer to; null for none. */
  ids: (string | null)[];
}

export interface Index {
  format: number;
  title: string;
  made_at: string;
  version: string;
  live: boolean;
  notes: string[];
  records: { count: number; columns: Record<string, TextColumn | Value[]> };
  groups: Group[];
  tables: CostTable[];
  printed: PrintedTable[];
  penalty: { references: Record<string, number>; exponents: Record<string, number> };
  datasets: Record<string, Dataset>;
  methods: Record<string, Method>;
  errata: Erratum[];
}

export interface DrawsFile {
  replicates: number;
  /** Little-endian float32 in base64, replicates x methods, row-major; one row is one draw of the same test rows. */
  cells: Record<string, { methods: string[]; values: string }>;
}

export interface MethodFile {
  name: string;
  title: string;
  description: string;
  settings: { name: string; value: Value; meaning: string }[];
  source: string | null;
  trainable: string | null;
  stability?: { group: string; method: string; datasets: Record<string, { deviation: number; low: number | null; high: number | null; seeds: number }> }[];
}

export interface DatasetFile {
  name: string;
  spec: Record<string, unknown>;
  example: Record<string, { prompt: string; target: string } | null> | null;
  lengths: { edges: number[]; counts: number[]; tokenizer: string; of?: string } | null;
  notes?: string[];
}

export interface CurvePoint {
  step: number;
  tokens?: number | null;
  loss: number | null;
  validation_loss?: number | null;
  learning_rate?: number | null;
}

export interface RunFile {
  key: string;
  row: Record<string, Value>;
  config: Record<string, unknown>;
  train: Record<string, unknown> | null;
  evaluation: Record<string, unknown> | null;
  curve: CurvePoint[];
  predictions: { rows: number; pages: number } | null;
  notes: string[];
}

export interface Prediction {
  id: Value;
  prompt: string | null;
  text: string | null;
  references: Value[];
  right: boolean | null;
  score: number | null;
  valid: boolean | null;
}

export interface PredictionsFile {
  first: number;
  rows: Prediction[];
}

export interface LiveFile {
  at: string;
  grids: { name: string; total: number | null; done: number; failed: number; running: number; waiting: number | null }[];
  runs: {
    cell: string;
    model: string;
    method: string;
    dataset: string;
    seed: number | null;
    phase: string;
    step: number | null;
    steps: number | null;
    curve: [number, number][];
  }[];
  changed: number;
}
