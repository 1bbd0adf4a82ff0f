// Builds what is committed: the client's types and dist/, and the viewer of the API reference. Usage: npm ci --ignore-scripts && npm run build

import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
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

function copyViewer() {
  const viewer = "node_modules/openapi-explorer";
  const script = `${LOCAL}/docs/openapi-explorer.min.js`;
  copyFileSync(here(`${viewer}/dist/browser/openapi-explorer.min.js`), here(script));
  copyFileSync(here(`${viewer}/LICENSE`), here(`${LOCAL}/docs/openapi-explorer.LICENSE`));
}

await buildClient();
copyViewer();
