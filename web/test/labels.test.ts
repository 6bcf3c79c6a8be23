// Names beside marks: where one would lie on another it moves up or down.
import { expect, it } from "vitest";
import { heights, type Mark } from "../src/compute/labels";

const mark = (x: number, y: number, letters = 12, isLeft = false): Mark => ({ x, y, letters, isLeft });

it("leaves names that meet nothing where they are", () => {
  expect(heights([mark(100, 100), mark(400, 100), mark(100, 300)])).toEqual([-9, -9, -9]);
});

it("keeps names apart from one another and from marks", () => {
  const [first, second] = heights([mark(100, 300), mark(150, 290, 3)]);
  expect(first).not.toBe(-9); // the mark of the second would be under it
  expect(second).toBe(-9);
  expect(new Set(heights([mark(100, 100), mark(100, 100), mark(100, 100)])).size).toBe(3);
});

it("gives a name to every mark where there is no room", () => {
  expect(heights(Array.from({ length: 40 }, () => mark(50, 50)))).toHaveLength(40);
});
