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

/** Names and values, any JSON, as a list of terms; what is nested is written as JSON. */
export function Facts({ of }: { of: Record<string, unknown> }) {
  return (
    <dl class="facts">
      {Object.entries(of).map(([name, value]) => (
        <div key={name}>
          <dt><Words text={name.replaceAll("_", " ")} /></dt>
          <dd><Value value={value} /></dd>
        </div>
      ))}
    </dl>
  );
}

function Value({ value }: { value: unknown }) {
  if (value === null || value === undefined || value === "") return <span class="none">none</span>;
  if (typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0)
    return <Facts of={value as Record<string, unknown>} />;
  if (Array.isArray(value) && value.every((each) => each === null || typeof each !== "object"))
    return <Words text={value.length ? value.map(String).join(", ") : "none"} />;
  if (typeof value === "object") return <Words text={JSON.stringify(value)} />;
  return <Words text={typeof value === "number" ? String(value) : value} />;
}
