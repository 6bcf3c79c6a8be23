/** A figure drawn by Observable Plot: fitted to its place, with words for those who do not see it, and downloads. */
import { plot, type PlotOptions } from "@observablehq/plot";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { savePng, saveSvg } from "../download";
import { short, visible } from "../text";
import { SYMBOLS } from "../theme";
import { usePage } from "./context";

interface Props {
  /** Name of the file. */
  name: string;
  title: ComponentChildren;
  /** What the figure shows, in words. */
  description: string;
  /** Marks and scales for a width in pixels. */
  draw: (width: number) => PlotOptions;
  /** Drawn anew when one of these changes, or the colours or the width. */
  when: unknown[];
  children?: ComponentChildren;
}

// Plot writes a style element into what it draws, which the content security policy would refuse. A document that is
// not shown applies no styles: it is drawn there, the element is taken out, and app.css has the same rules.
const aside = document.implementation.createHTMLDocument("");

export function drawn(options: PlotOptions, ink = "#000"): SVGSVGElement {
  const symbol = { domain: [...SYMBOLS], range: [...SYMBOLS] }; // a symbol that is named is the one that is drawn
  const svg = plot({ marginBottom: 44, ...options, symbol, document: aside, className: "plot" } as PlotOptions) as SVGSVGElement;
  svg.querySelectorAll("style").forEach((each) => each.remove());
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("color", ink);
  svg.setAttribute("font-size", "13");
  return svg;
}

export function Figure({ name, title, description, draw, when, children }: Props) {
  const { colours } = usePage();
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.round(entry!.contentRect.width)));
    observer.observe(place.current!);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (width === 0) return;
    const options = draw(Math.max(300, width));
    place.current!.replaceChildren(
      drawn({ ...options, width: Math.max(300, width) }, colours.text),
    );
  }, [width, colours, ...when]);
  const svg = () => place.current!.querySelector<SVGSVGElement>("svg");
  return (
    <figure>
      <figcaption>{title}</figcaption>
      <div class="drawing" role="img" aria-label={visible(description)} ref={place} />
      {children}
      <div class="tools">
        <button type="button" class="quiet" aria-label={`Download the figure ${short(name, 80)} as SVG`}
          onClick={() => svg() && saveSvg(name, svg()!, colours.page)}>SVG</button>
        <button type="button" class="quiet" aria-label={`Download the figure ${short(name, 80)} as PNG`}
          onClick={() => svg() && void savePng(name, svg()!, colours.page)}>PNG</button>
      </div>
    </figure>
  );
}
