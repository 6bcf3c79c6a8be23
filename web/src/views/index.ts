/** All views by their name in the address; one file each. Those with a title stand in the navigation. */
import type { ComponentType } from "preact";
import type { Index } from "../types";
import { Diff } from "./diff";
import { DatasetView } from "./dataset";
import { Errata } from "./errata";
import { Heatmap } from "./heatmap";
import { Leaderboard } from "./leaderboard";
import { Live } from "./live";
import { MethodView } from "./method";
import { Paper } from "./paper";
import { Pareto } from "./pareto";
import { Pscp } from "./pscp";
import { RunView } from "./run";
import { Runs } from "./runs";

export interface View {
  title?: string;
  view: ComponentType;
  /** Whether it stands in the navigation. */
  shown?: (index: Index) => boolean;
}

export const VIEWS: Record<string, View> = {
  leaderboard: { title: "Leaderboard", view: Leaderboard },
  pareto: { title: "Score against cost", view: Pareto },
  pscp: { title: "PSCP", view: Pscp },
  heatmap: { title: "Datasets", view: Heatmap },
  runs: { title: "Runs", view: Runs },
  paper: { title: "Paper", view: Paper, shown: (index) => index.printed.length > 0 },
  errata: { title: "Errata", view: Errata, shown: (index) => index.errata.length > 0 },
  live: { title: "Live", view: Live, shown: (index) => index.live },
  method: { view: MethodView },
  dataset: { view: DatasetView },
  run: { view: RunView },
  diff: { view: Diff },
};
