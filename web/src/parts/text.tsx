/** Every text that comes from data goes through these: text nodes only, invisible characters as marks. */
import { visible } from "../text";
import type { ComponentChildren } from "preact";

/** A name or short text; isolated, so that its direction of reading leaves its surroundings alone. */
export function Words({ text }: { text: unknown }) {
  return <bdi>{visible(text)}</bdi>;
}

/** A name that may be very long: cut by the style sheet, the whole in a title. */
export function Name({ text }: { text: unknown }) {
  const words = visible(text);
  return words.length > 40 ? <bdi class="cut" title={words}>{words}</bdi> : <bdi>{words}</bdi>;
}

/** Text of several lines as it is, such as a prompt or an output. */
export function Block({ text, label }: { text: unknown; label: string }) {
  const words = visible(text);
  if (words === "") return <p class="none">empty</p>;
  return <pre class="block" dir="auto" tabIndex={0} role="region" aria-label={label}>{words}</pre>;
}

/** A text in which `backticks` mark code, as in notes and errata. */
export function Prose({ text }: { text: unknown }) {
  const pieces = visible(text).split("`");
  const even = pieces.length % 2 === 1;
  return <bdi>{pieces.map((piece, place) => (even && place % 2 === 1 ? <code key={place}>{piece}</code> : even || place === 0 ? piece : `\`${piece}`))}</bdi>;
}

export function Notice({ children, kind = "info" }: { children: ComponentChildren; kind?: "info" | "warning" }) {
  return <div class={`notice ${kind}`}>{children}</div>;
}

/** Names and values, any JSON: plain values in a list, what is nested folded away under its name. */
export function Facts({ of }: { of: Record<string, unknown> }) {
  const entries = Object.entries(of);
  const plain = entries.filter(([, value]) => !isNested(value));
  return (
    <div class="facts">
      {plain.length > 0 && <List of={plain} />}
      {entries.filter(([, value]) => isNested(value)).map(([name, value]) => (
        <details key={name}>
          <summary><Words text={name.replaceAll("_", " ")} /></summary>
          <List of={flat(value as object)} />
        </details>
      ))}
    </div>
  );
}

function List({ of }: { of: [string, unknown][] }) {
  return (
    <dl>
      {of.map(([name, value]) => (
        <div key={name}>
          <dt><Words text={name.replaceAll("_", " ")} /></dt>
          <dd>{value === null || value === undefined || String(value) === "" ? <span class="none">none</span> : <Words text={Array.isArray(value) ? value.map(String).join(", ") : value} />}</dd>
        </div>
      ))}
    </dl>
  );
}

function isNested(value: unknown): value is object {
  if (value === null || typeof value !== "object") return false;
  return Array.isArray(value) ? value.some((each) => each !== null && typeof each === "object") : Object.keys(value).length > 0;
}

/** What is nested as one list, each name with the names above it. */
function flat(value: object, above = ""): [string, unknown][] {
  return Object.entries(value).flatMap(([name, each]): [string, unknown][] =>
    isNested(each) ? flat(each, `${above}${name} / `) : [[above + name, typeof each === "object" && !Array.isArray(each) && each ? "none" : each]],
  );
}
