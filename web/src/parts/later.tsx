/** What can wait: a part of the page until it comes near the window, a computation until the rest is painted. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** Drawn when it first comes near the window; until then what it is, in words. */
export function WhenNear({ words, children }: { words: ComponentChildren; children: ComponentChildren }) {
  const [near, setNear] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (near) return;
    const observer = new IntersectionObserver((entries) => entries.some((each) => each.isIntersecting) && setNear(true), { rootMargin: "300px" });
    observer.observe(place.current!);
    const print = () => setNear(true);
    window.addEventListener("beforeprint", print);
    return () => {
      observer.disconnect();
      window.removeEventListener("beforeprint", print);
    };
  }, [near]);
  return near ? <>{children}</> : <div class="waiting" ref={place}>{words}</div>;
}

/** A value that takes long: computed after the page is painted, the one before stays until then. */
export function useLater<T extends object>(compute: () => T, when: unknown[]): T | null {
  const [value, setValue] = useState<T | null>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const frame = requestAnimationFrame(() => (timer = setTimeout(() => setValue(compute())))); // after the next frame
    return () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    };
  }, when);
  return value;
}
