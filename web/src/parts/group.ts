/** What a view shows of a group: datasets and methods by the filters, the draws once they are there, the standings. */
import { useMemo } from "preact/hooks";
import { partOf, type Part } from "../choice";
import { decodeDraws, standings, type Draws, type Standing } from "../compute/standings";
import { useFile } from "../data";
import type { DrawsFile, Group } from "../types";
import { usePage } from "./context";

export interface Shown extends Part {
  /** undefined while the draws are read. */
  draws: Draws | null | undefined;
  standings: Standing[];
}

const decoded = new WeakMap<DrawsFile, Draws>();

export function useGroup(group: Group | undefined): Shown {
  const { index, route } = usePage();
  const { area, dataset, method, common } = route.query;
  const part = useMemo(
    () => (group ? partOf(index, group, route.query) : { asked: [], datasets: [], methods: [] }),
    [index, group, area, dataset, method, common],
  );
  const file = useFile<DrawsFile>(group?.draws ? `draws/${group.id}` : null);
  const draws = useMemo(() => {
    if (!file) return file;
    const found = decoded.get(file) ?? decodeDraws(file);
    decoded.set(file, found);
    return found;
  }, [file]);
  const ordered = useMemo(
    () => (group && !group.refused ? standings(group, part.datasets, part.methods, draws ?? null) : []),
    [group, part, draws],
  );
  return { ...part, draws, standings: ordered };
}
