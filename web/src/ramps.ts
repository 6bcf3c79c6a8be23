/** Colours of numbers that colour-blind people can order: one ramp for amounts, one for differences. */

/** Dark blue over grey to yellow, evenly lighter: readable without colour too. */
const AMOUNT: [number, number, number][] = [
  [0, 34, 78], [33, 59, 110], [76, 85, 108], [108, 110, 114], [140, 136, 120], [173, 162, 113], [210, 192, 97], [254, 232, 56],
];
/** Orange below, near white at 0, blue above. */
const DIFFERENCE: [number, number, number][] = [
  [140, 60, 0], [204, 110, 30], [240, 180, 120], [246, 246, 246], [150, 195, 230], [60, 135, 195], [0, 75, 135],
];

export interface Ground {
  ground: string;
  /** Black or white, whichever is read better on it. */
  ink: string;
}

function between(stops: [number, number, number][], share: number): Ground {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const below = Math.min(stops.length - 2, Math.floor(place));
  const rgb = stops[below]!.map((each, channel) => Math.round(each + (stops[below + 1]![channel]! - each) * (place - below)));
  const light = rgb.map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * light[0]! + 0.7152 * light[1]! + 0.0722 * light[2]!;
  return { ground: `rgb(${rgb.join(" ")})`, ink: luminance > 0.179 ? "#000" : "#fff" };
}

/** `share` from 0 to 1. */
export const amountColour = (share: number): Ground => between(AMOUNT, share);

/** `share` from -1 to 1. */
export const differenceColour = (share: number): Ground => between(DIFFERENCE, (share + 1) / 2);
