// Builds what is committed: the client's types and dist/, and the libraries of the local page.
// Usage: npm ci --ignore-scripts && npm run build

import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString, tsLiteral, tsUnion } from "openapi-typescript";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

function run(tool, ...args) {
  execFileSync(here(`node_modules/.bin/${tool}`), args, { cwd: here("."), stdio: "inherit" });
}

async function buildClient() {
  const transform = ({ "x-extensible-enum": codes }) => codes && tsUnion(codes.map(tsLiteral));
  const nodes = await openapiTS(new URL("../../openapi.yaml", import.meta.url), { silent: true, transform });
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

/** What the page and the viewer of the reference take from elsewhere, as it is. */
function copyLibraries() {
  for (const [from, to] of [
    ["marked/lib/marked.esm.js", "page/marked.esm.js"],
    ["marked/LICENSE", "page/marked.LICENSE"],
    ["openapi-explorer/dist/browser/openapi-explorer.min.js", "docs/openapi-explorer.min.js"],
    ["openapi-explorer/LICENSE", "docs/openapi-explorer.LICENSE"],
  ]) {
    copyFileSync(here(`node_modules/${from}`), here(`../../local/${to}`));
  }
}

await buildClient();
copyLibraries();
