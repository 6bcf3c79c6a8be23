/** Where names stand beside their marks in a figure, so that none lies on another. Pure; lengths are in pixels. */

export interface Mark {
  x: number;
  y: number;
  /** Letters of the name. */
  letters: number;
  /** The name stands left of its mark, as near the right edge. */
  isLeft: boolean;
}

const LETTER = 7.6; // of a font of 13, rather wide
const LINE = 14;
const BESIDE = 11;
const HEIGHTS = [-9, 12, -23, 26, -37, 40, -51, 54];

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** How far above (negative) or below its mark each name stands: at the first height where it meets no other name and no mark. */
export function heights(marks: readonly Mark[]): number[] {
  const symbols = marks.map(({ x, y }): Box => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }));
  const taken: Box[] = [];
  return marks.map((mark, own) => {
    const boxes = HEIGHTS.map((height) => ({ height, box: boxOf(mark, height) }));
    const isFree = ({ box }: { box: Box }) => ![...taken, ...symbols.filter((_, place) => place !== own)].some((each) => meets(box, each));
    const chosen = boxes.find(isFree) ?? boxes[0]!;
    taken.push(chosen.box);
    return chosen.height;
  });
}

function boxOf({ x, y, letters, isLeft }: Mark, height: number): Box {
  const near = isLeft ? x - BESIDE : x + BESIDE;
  const far = isLeft ? near - letters * LETTER : near + letters * LETTER;
  const middle = y + height;
  return { left: Math.min(near, far), right: Math.max(near, far), top: middle - LINE / 2, bottom: middle + LINE / 2 };
}

function meets(one: Box, other: Box): boolean {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
