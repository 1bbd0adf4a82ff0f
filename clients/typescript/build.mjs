// Builds what is committed: the client's types and dist/, the page with the client in it, and the
// viewer of the API's reference. Usage: npm ci --ignore-scripts && npm run build

import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import openapiTS, { astToString } from "openapi-typescript";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const LOCAL = "../../local";

function run(tool, ...args) {
  execFileSync(here(`node_modules/.bin/${tool}`), args, { cwd: here("."), stdio: "inherit" });
}

async function buildClient() {
  const nodes = await openapiTS(new URL("../../openapi.yaml", import.meta.url), { silent: true });
  const components = nodes.find((node) => node.name.text === "components");
  // The client has its own way to call the operations: it needs what is sent and answered.
  components.members = components.members.filter((member) => member.name.text === "schemas");
  writeFileSync(here("src/openapi.ts"), `// Made of openapi.yaml by build.mjs.\n\n${astToString([components])}`);
  rmSync(here("dist"), { recursive: true, force: true });
  run("tsc");
  run("tsc", "--module", "CommonJS", "--moduleResolution", "Node10", "--outDir", "dist/cjs");
  writeFileSync(here("dist/cjs/package.json"), '{ "type": "commonjs" }\n');
  copyFileSync(here("../../LICENSE"), here("LICENSE"));
}

/** One file without a request of its own: style and script stand in it. */
async function buildPage() {
  const bundle = await build({
    entryPoints: [here(`${LOCAL}/page/main.js`)],
    alias: { "valro-client": here("dist/index.js") },
    absWorkingDir: here("../.."),
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  const parts = {
    "/* page.css */": readFileSync(here(`${LOCAL}/page/page.css`), "utf8"),
    "// main.js": bundle.outputFiles[0].text,
  };
  let page = readFileSync(here(`${LOCAL}/page/index.html`), "utf8");
  for (const [mark, text] of Object.entries(parts)) {
    if (page.split(mark).length !== 2) throw new Error(`index.html needs ${mark} once`);
    if (/<\/(script|style)|<!--/i.test(text)) throw new Error(`What replaces ${mark} would end its element`);
    page = page.replace(mark, () => text.trim());
  }
  writeFileSync(here(`${LOCAL}/page.html`), page);
}

function copyViewer() {
  const viewer = "node_modules/openapi-explorer";
  const script = `${LOCAL}/docs/openapi-explorer.min.js`;
  copyFileSync(here(`${viewer}/dist/browser/openapi-explorer.min.js`), here(script));
  copyFileSync(here(`${viewer}/LICENSE`), here(`${LOCAL}/docs/openapi-explorer.LICENSE`));
}

await buildClient();
await buildPage();
copyViewer();
