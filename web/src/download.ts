/** Tables and figures as files: CSV, SVG, PNG. Nothing leaves the browser but to the reader's own disk. */

export function save(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name.replace(/[^A-Za-z0-9._-]+/g, "-").slice(0, 120);
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export function saveCsv(name: string, text: string): void {
  save(`${name}.csv`, new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
}

/** The drawing as a document of its own, with a background and without what depends on the page. */
function standalone(svg: SVGSVGElement, background: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("font-family", "system-ui, sans-serif");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: background })) rect.setAttribute(name, value);
  copy.prepend(rect);
  return new XMLSerializer().serializeToString(copy);
}

export function saveSvg(name: string, svg: SVGSVGElement, background: string): void {
  save(`${name}.svg`, new Blob([standalone(svg, background)], { type: "image/svg+xml" }));
}

export async function savePng(name: string, svg: SVGSVGElement, background: string): Promise<void> {
  const address = URL.createObjectURL(new Blob([standalone(svg, background)], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const [width, height] = [Number(svg.getAttribute("width")), Number(svg.getAttribute("height"))];
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
    if (blob) save(`${name}.png`, blob);
  } finally {
    URL.revokeObjectURL(address);
  }
}
