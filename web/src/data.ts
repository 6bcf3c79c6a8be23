/** Data files: each is a script that calls `peftbench.put(name, value)`, which works from file:// and from a server. */
import { useEffect, useReducer } from "preact/hooks";

/** `undefined` while it is on its way, `null` where there is no such file. */
export type Loaded<T> = T | null | undefined;

const files = new Map<string, unknown>();
const asked = new Set<string>();
const listeners = new Set<() => void>();
const shown = new Map<string, number>(); // how many parts of the page show a file now

const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const ADDRESS = /^data\/[A-Za-z0-9._/-]+\.js(\?\d+)?$/;

interface Policy {
  createScriptURL(address: string): unknown;
}
declare global {
  interface Window {
    peftbench?: { put(name: string, value: unknown): void };
    trustedTypes?: { createPolicy(name: string, rules: { createScriptURL(address: string): string }): Policy };
  }
}

/** The only addresses that scripts may come from; where the browser knows trusted types it enforces this. */
function checked(address: string): string {
  if (!ADDRESS.test(address) || address.includes("..")) throw new TypeError(`not a data file: ${address}`);
  return address;
}
const policy: Policy = window.trustedTypes?.createPolicy("peftbench", { createScriptURL: checked }) ?? {
  createScriptURL: checked,
};

window.peftbench = Object.freeze({ put });

function put(name: string, value: unknown): void {
  files.set(name, value);
  for (const listener of listeners) listener();
}

/** Read a file, again if it was read before; `version` gets past caches. */
export function request(name: string, version?: number): void {
  asked.add(name);
  if (!NAME.test(name)) return put(name, null);
  const script = document.createElement("script");
  const address = policy.createScriptURL(`data/${name}.js${version === undefined ? "" : `?${version}`}`);
  script.src = address as string;
  script.onload = () => {
    script.remove();
    if (!files.has(name)) put(name, null);
  };
  script.onerror = () => {
    script.remove();
    if (!files.get(name)) put(name, null); // what was read before stays where a later reading fails
  };
  document.head.append(script);
}

/** Records have come: read anew what is shown, and forget what is not, so that it is read when it is wanted again. */
export function refresh(version: number): void {
  for (const name of asked)
    if (name !== "live") {
      if ((shown.get(name) ?? 0) > 0) request(name, version);
      else {
        asked.delete(name);
        files.delete(name);
      }
    }
}

/** Files by name, in the order asked for; each is read once, when it is first wanted. */
export function useFiles<T>(names: readonly string[]): Loaded<T>[] {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const key = names.join("\n");
  useEffect(() => {
    listeners.add(redraw as () => void);
    for (const name of names) if (!asked.has(name)) request(name);
    for (const name of names) shown.set(name, (shown.get(name) ?? 0) + 1);
    (redraw as () => void)(); // a file may have come between drawing and this effect
    return () => {
      listeners.delete(redraw as () => void);
      for (const name of names) shown.set(name, (shown.get(name) ?? 1) - 1);
    };
  }, [key]);
  return names.map((name) => files.get(name) as Loaded<T>);
}

/** One file; without a name there is none. */
export function useFile<T>(name: string | null): Loaded<T> {
  return useFiles<T>(name === null ? [] : [name])[0] ?? (name === null || files.has(name) ? null : undefined);
}
