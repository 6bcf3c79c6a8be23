// Words and numbers: hostile text made visible, CSV without formulas, the answer in words, the address.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { answer } from "../src/compute/answer";
import type { Standing } from "../src/compute/standings";
import { csv, csvCell } from "../src/csv";
import { amount, brief, fixed, percent, unitFor } from "../src/numbers";
import { amountColour, differenceColour } from "../src/ramps";
import { changed, format, list, parse, unlist } from "../src/route";
import { listed, short, visible } from "../src/text";

describe("visible", () => {
  it("marks what cannot be seen or turns reading round", () => {
    expect(visible("entail\u202etnem")).toBe("entail⟦U+202E⟧tnem");
    for (const code of [0x00, 0x07, 0x1b, 0x7f, 0x85, 0xad, 0x200b, 0x200f, 0x2028, 0x2066, 0x2069, 0x061c, 0xfeff, 0x3164, 0xe0041, 0x180e, 0x2800, 0xfe0f])
      expect(visible(`a${String.fromCodePoint(code)}b`)).toBe(`a⟦U+${code.toString(16).toUpperCase().padStart(4, "0")}⟧b`);
    expect(visible("a\ud800b")).toBe("a⟦U+D800⟧b");
  });
  it("leaves letters of all scripts, line feeds, tabs and pictures", () => {
    for (const text of ["שלום", "naïve", "日本語", "a\n\tb", "é", "नमस्ते", "🙂"]) expect(visible(text)).toBe(text);
  });
  it("does not let marks pile up over other lines", () => {
    expect(visible(`a${"\u0301".repeat(400)}b`).length).toBeLessThan(30);
  });
  it("takes anything", () => {
    expect([visible(null), visible(undefined), visible(0), visible({ a: 1 })]).toEqual(["", "", "0", "[object Object]"]);
  });
  it("cuts long names by letters, not by halves of them", () => {
    expect(short("🙂".repeat(30), 5)).toBe("🙂🙂🙂🙂…");
    expect(listed(["a", "b", "c"])).toBe("a, b and c");
    expect(listed(["a", "b", "c", "d"], 2)).toBe("a, b and 2 more");
  });
});

describe("CSV", () => {
  it("does not let a cell be a formula", () => {
    for (const start of ["=", "+", "-", "@", "\t", "\r"]) expect(csvCell(`${start}cmd|x`).replace(/^"/, "")).toMatch(/^'/);
  });
  it("leaves plain numbers as they are", () => {
    for (const text of ["-1.5", "+2", "-3e-5", "-.5"]) expect(csvCell(text)).toBe(text);
    expect([csvCell(-1), csvCell(null), csvCell(true), csvCell(undefined)]).toEqual(["-1", "", "true", ""]);
    expect(csvCell("-1+1")).toBe("'-1+1");
  });
  it("quotes", () => {
    expect(csv(["a,b", 'c"'], [["x\ny", 1]])).toBe('"a,b","c"""\r\n"x\ny",1\r\n');
  });
});

describe("numbers", () => {
  it("share one unit a column", () => {
    const unit = unitFor("bytes", [28.4e9, 27e9, null, 15e6]);
    expect(unit.name).toBe("GB");
    expect([amount(28.41e9, unit), amount(15e6, unit), amount(null, unit)]).toEqual(["28.4", "0.015", "–"]);
    expect(unitFor("bytes", []).name).toBe("kB");
  });
  it("have no minus zero and no false certainty", () => {
    expect([fixed(-0.01), fixed(null), fixed(NaN), fixed(1234.56)]).toEqual(["0.0", "–", "–", "1,234.6"]);
    expect([percent(0), percent(0.004), percent(0.999), percent(1)]).toEqual(["0", "<1", ">99", "100"]);
    expect(brief(5e8)).toBe("500M");
  });
  it("are read on their ground: contrast at least 4.5", () => {
    const luminance = (rgb: number[]) => rgb.map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place]!, 0);
    for (let step = 0; step <= 100; step++)
      for (const { ground, ink } of [amountColour(step / 100), differenceColour(step / 50 - 1)]) {
        const under = luminance(ground.match(/\d+/g)!.map(Number)) + 0.05;
        expect(ink === "#000" ? under / 0.05 : 1.05 / under).toBeGreaterThanOrEqual(4.5);
      }
  });
});

describe("the answer", () => {
  const row = (method: string, mean: number | null, tier: number | null, behind: [number, number, number] | null = null, missing: string[] = []): Standing => ({
    method, mean, tier, missing, interval: null, draws: null, behind: behind && { estimate: behind[0], low: behind[1], high: behind[2] },
  });
  const title = (name: string) => name;
  it("names the leader and who is tied with it", () => {
    const found = answer([row("lora", 77.31, 1), row("ia3", 77, 1, [0.3, -1, 2]), row("base", 20, 2, [57.3, 50, 60])], 27, title, null);
    expect(found.headline).toBe("lora leads with 77.3 of 100; ia3 cannot be told apart from it.");
    expect(found.details).toEqual(["The next, base, is 57.3 points behind (95 % interval 50.0 to 60.0)."]);
  });
  it("says where nothing is sure, and why", () => {
    const found = answer([row("lora", 77, null), row("ia3", 70, null)], 27, title, "one test row");
    expect(found.headline).toBe("lora has the highest mean, 77.0 of 100.");
    expect(found.details).toEqual(["How surely cannot be said: one test row."]);
  });
  it("leaves out methods with missing cells aloud", () => {
    const found = answer([row("lora", 77, 1), row("ia3", 70, 2, [7, 5, 9]), row("base", null, null, null, ["rte"])], 27, title, null);
    expect(found.headline).toBe("lora leads with 77.0 of 100; every other method is behind by more than chance.");
    expect(found.details.at(-1)).toContain("base (1 of 27 missing)");
    expect(answer([row("base", null, null, null, ["rte"])], 2, title, null).headline).toBe("No method has all 2 datasets, so none leads.");
    expect(answer([], 0, title, null).headline).toBe("No dataset is left to compare on.");
    expect(answer([row("lora", 77, 1)], 2, title, null).headline).toContain("no other method");
  });
});

describe("the address", () => {
  it("comes back as it was, whatever the names", () => {
    for (const part of ["lora(rank=4)", "a/b?c#d", "100%", "שלום", "x".repeat(500), "%2F"]) {
      const route = { view: "method", parts: [part], query: { dataset: unlist([part, "b,c"]), common: "1" } };
      expect(parse(format(route))).toEqual(route);
      expect(list(parse(format(route)).query.dataset)).toEqual([part, "b,c"]);
    }
  });
  it("may be anything that someone typed", () => {
    expect(parse("")).toEqual({ view: "leaderboard", parts: [], query: {} });
    expect(parse("#/method/%E0%A4%A").parts).toEqual(["%E0%A4%A"]);
    expect(Object.keys(parse("#/x?__proto__=1").query)).toEqual(["__proto__"]);
  });
  it("drops what is empty", () => {
    expect(changed(parse("#/runs?model=a&dataset=b,c"), { model: "" })).toBe("#/runs?dataset=b,c");
  });
});

describe("the source", () => {
  const sources = ["", "compute/", "parts/", "views/"].flatMap((folder) =>
    readdirSync(new URL(`../src/${folder}`, import.meta.url)).filter((name) => /\.tsx?$/.test(name)).map((name) => ({ name: folder + name, text: readFileSync(new URL(`../src/${folder}${name}`, import.meta.url), "utf8") })),
  );
  it("never makes markup, code or styles of text", () => {
    const forbidden = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|DOMParser|\beval\(|new Function|setTimeout\(["'`]|createContextualFragment|setAttribute\("(style|on\w+|href|src)"|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon/;
    expect(sources.length).toBeGreaterThan(25);
    for (const { name, text } of sources) expect(forbidden.exec(text)?.[0], name).toBeUndefined();
  });
  it("has files that one can read", () => {
    for (const { name, text } of sources) {
      expect(text.split("\n").length, name).toBeLessThanOrEqual(400);
      if (!name.endsWith(".d.ts")) expect(text, name).toMatch(/^\/\*\* /);
    }
  });
});
