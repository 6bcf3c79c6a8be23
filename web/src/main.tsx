/** Where the page begins: reads the index, chooses the view by the address, keeps title, focus and theme. */
import { Component, render, type ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import "./style.css";
import { refresh, request, useFile } from "./data";
import { PageContext, usePage } from "./parts/context";
import { Notice, Words } from "./parts/text";
import { change, link, useRoute } from "./route";
import { short } from "./text";
import { asTheme, DARK, LIGHT, remember, remembered, useDark, type Theme } from "./theme";
import type { Index, LiveFile } from "./types";
import { VIEWS } from "./views";

function App() {
  const route = useRoute();
  const index = useFile<Index>("index");
  const live = useFile<LiveFile>(index?.live ? "live" : null);
  const [chosen, setChosen] = useState<Theme>(remembered());
  const theme = route.query.theme ? asTheme(route.query.theme) : chosen;
  const dark = useDark(theme);
  const page = useMemo(() => index && { index, route, colours: dark ? DARK : LIGHT }, [index, route, dark]);
  usePolling(index ?? null, live ?? null);
  const heading = useRef<HTMLElement>(null);
  const place = [route.view, ...route.parts].join("/");
  const first = useRef(true);
  useEffect(() => {
    if (index) document.title = short([index.title, ...route.parts, route.view].filter(Boolean).reverse().join(" · "), 120);
    if (!index) return;
    if (!first.current) {
      heading.current?.focus({ preventScroll: true });
      window.scrollTo(0, 0);
    }
    first.current = false;
  }, [place, index !== undefined]);
  const setTheme = (next: Theme) => {
    setChosen(next);
    // Without storage the address remembers; with it an address that names a theme gives way.
    change(route, { theme: remember(next) ? "" : next }, true);
  };
  if (page === undefined) return <main class="loading"><p>Reading the results …</p></main>;
  if (page === null)
    return <main class="loading"><h1>No results here</h1><p>The file data/index.js beside this page could not be read. Build the folder again with <code>peftbench site build</code>.</p></main>;
  const found = Object.hasOwn(VIEWS, route.view) ? VIEWS[route.view] : undefined;
  return (
    <PageContext.Provider value={page}>
      <a class="skip" href={`#${"main"}`} onClick={(event) => { event.preventDefault(); heading.current?.focus(); }}>Skip to content</a>
      <Header theme={theme} setTheme={setTheme} />
      <main id="main" tabIndex={-1} ref={heading}>
        <Guard key={place} at={location.hash}>
          {found ? <found.view /> : <Unknown />}
        </Guard>
      </main>
      <footer>
        <p><Words text={page.index.title} />, made {page.index.made_at.slice(0, 16).replace("T", " ")} by peftbench <Words text={page.index.version} />. The address of each view is a link to it.</p>
      </footer>
    </PageContext.Provider>
  );
}

function Header({ theme, setTheme }: { theme: Theme; setTheme: (theme: Theme) => void }) {
  const { index, route } = usePage();
  return (
    <header>
      <a class="brand" href={link(route, "leaderboard")}>peftbench</a>
      <nav aria-label="Views">
        {Object.entries(VIEWS).filter(([, each]) => each.title && (each.shown?.(index) ?? true)).map(([name, each]) => (
          <a key={name} href={link(route, name)} aria-current={route.view === name ? "page" : undefined}>{each.title}</a>
        ))}
      </nav>
      <label class="theme">
        <span class="hidden">Colours</span>
        <select value={theme} onChange={(event) => setTheme(asTheme(event.currentTarget.value))}>
          <option value="system" selected={theme === "system"}>System colours</option>
          <option value="light" selected={theme === "light"}>Light</option>
          <option value="dark" selected={theme === "dark"}>Dark</option>
        </select>
      </label>
    </header>
  );
}

function Unknown() {
  const { route } = usePage();
  return <><h1>No such view</h1><p>There is no view <Words text={route.view} />. <a href={link(route, "leaderboard")}>To the leaderboard</a></p></>;
}

/** A view that fails says so in its place and leaves the rest of the page alone. */
class Guard extends Component<{ children: ComponentChildren; at: string }, { error: unknown }> {
  override state: { error: unknown } = { error: null };
  static override getDerivedStateFromError(error: unknown) {
    return { error };
  }
  override componentDidUpdate(before: { at: string }) {
    if (before.at !== this.props.at && this.state.error !== null) this.setState({ error: null });
  }
  override render() {
    if (this.state.error === null) return this.props.children;
    return <Notice kind="warning">This view could not be drawn: <Words text={this.state.error} />. Its data may be damaged; the other views are not concerned.</Notice>;
  }
}

/** While the folder is served: what runs is read every three seconds, and the index when records have come. */
function usePolling(index: Index | null, live: LiveFile | null): void {
  const on = index?.live === true;
  useEffect(() => {
    if (!on) return;
    let count = Date.now();
    const timer = setInterval(() => document.hidden || request("live", ++count), 3000);
    return () => clearInterval(timer);
  }, [on]);
  const seen = useRef<number | null>(null);
  useEffect(() => {
    if (!live) return;
    if (seen.current !== null && live.changed !== seen.current) refresh(Date.now());
    seen.current = live.changed;
  }, [live?.changed]);
}

render(<App />, document.getElementById("app")!);
