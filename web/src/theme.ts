/** Light and dark: what the system says, unless the address or an earlier visit says otherwise; and colours of figures. */
import { useEffect, useState } from "preact/hooks";

export type Theme = "system" | "light" | "dark";

export function remembered(): Theme {
  try {
    return asTheme(localStorage.getItem("peftbench-theme"));
  } catch {
    return "system"; // pages opened from files may have no storage
  }
}

/** Keep the choice for the next visit; false where the browser refuses. */
export function remember(theme: Theme): boolean {
  try {
    localStorage.setItem("peftbench-theme", theme);
    return true;
  } catch {
    return false;
  }
}

export function asTheme(text: string | null | undefined): Theme {
  return text === "light" || text === "dark" ? text : "system";
}

/** Whether the page is dark now; `theme` is what was chosen. */
export function useDark(theme: Theme): boolean {
  const query = window.matchMedia("(prefers-color-scheme: dark)");
  const [system, setSystem] = useState(query.matches);
  useEffect(() => {
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  const dark = theme === "system" ? system : theme === "dark";
  useEffect(() => {
    document.documentElement.dataset.theme = theme === "system" ? "" : theme;
  }, [theme]);
  return dark;
}

export interface Colours {
  text: string;
  faint: string;
  rule: string;
  page: string;
  accent: string;
  /** For methods, in order: Okabe and Ito's, which colour-blind people can tell apart; each has a symbol beside. */
  series: string[];
}

export const LIGHT: Colours = {
  text: "#1b2430", faint: "#56616e", rule: "#d5dbe2", page: "#ffffff", accent: "#0b5cad",
  series: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4a4f57"],
};

export const DARK: Colours = {
  text: "#e6e9ee", faint: "#a3adba", rule: "#39424d", page: "#14181e", accent: "#7cb8f5",
  series: ["#3d9be0", "#f0802a", "#1fbf91", "#dc93b9", "#f0b429", "#8accf2", "#c2c8d0"],
};

export const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"] as const;

/** Colour and symbol of a method: by its place among all methods of the page, so that they are the same in every view. */
export function looksOf(all: readonly string[], method: string, colours: Colours): { colour: string; symbol: (typeof SYMBOLS)[number] } {
  const place = Math.max(0, all.indexOf(method));
  const turn = Math.floor(place / 7); // from the eighth on a colour comes back with another symbol
  return { colour: colours.series[place % 7]!, symbol: SYMBOLS[(place + turn) % 7]! };
}
