// Builds the page into the Python package: index.html (copied from public/), app.js (one classic script), app.css.
// The same source gives the same bytes, so that continuous integration can compare them with what is committed.
import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    outDir: "../src/peftbench/site/assets",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false, // a file of its own: the content security policy refuses styles from scripts
    rollupOptions: {
      input: "src/main.tsx",
      output: {
        format: "iife",
        entryFileNames: "app.js",
        assetFileNames: "app[extname]",
      },
    },
  },
  test: { include: ["test/**/*.test.{ts,tsx}"] },
});
