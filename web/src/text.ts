/** Text from data made safe to look at: what is invisible or turns the direction of reading becomes a visible mark. */

// Controls (but line feed and tab), formats such as bidirectional marks, separators of lines, lone surrogates, and
// what Unicode says may be drawn as nothing. The Braille blank is not among those and looks like nothing too.
const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const PILED = /(\p{M}{4})\p{M}+/gu; // marks piled on one letter would be drawn over other lines

export function visible(text: unknown): string {
  const words = typeof text === "string" ? text : text === null || text === undefined ? "" : String(text);
  return words.replace(UNSEEN, mark).replace(PILED, "$1⟦more marks⟧");
}

function mark(found: string): string {
  return `⟦U+${found.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟧`;
}

/** At most `most` characters, visible; for labels in figures and for window titles. */
export function short(text: unknown, most = 24): string {
  const letters = [...visible(text).replace(/\s+/gu, " ")];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : letters.join("");
}

/** A list in words, the first few of very many. */
export function listed(items: readonly string[], most = 6): string {
  const shown = items.slice(0, most).map((each) => short(each, 40));
  const rest = items.length - shown.length;
  if (rest > 0) return `${shown.join(", ")} and ${rest.toLocaleString("en")} more`;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : (shown[0] ?? "");
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
