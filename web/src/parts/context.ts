/** What every part of the page needs: the index, where we are, and the colours of the theme. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { parse, type Route } from "../route";
import { LIGHT, type Colours } from "../theme";
import type { Index } from "../types";

export interface Page {
  index: Index;
  route: Route;
  colours: Colours;
}

export const PageContext = createContext<Page>({ index: {} as Index, route: parse(""), colours: LIGHT });
export const usePage = (): Page => useContext(PageContext);
