// Checks the dashboards against the types that Grafana publishes (@grafana/schema): the dashboard as a
// whole, and each panel's options and field options against those of its kind.
//
//   node typecheck.mjs
//
// In TypeScript a literal with a key that its type does not have is an error, a misspelt enum too. So each
// dashboard is written out as a program of literals, and the compiler does the rest. `Plain` turns enums
// into their values, which is what JSON has.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const here = fileURLToPath(new URL('.', import.meta.url));
const directory = path.join(here, '..', 'dashboards');
const made = path.join(here, 'typecheck.generated.ts');
// What the kinds of panels in use have of their own.
const kinds = { stat: ['Options'], timeseries: ['Options', 'FieldConfig'], table: ['Options', 'FieldConfig'] };

const lines = [
  "import type * as schema from '@grafana/schema';",
  `type Plain<T> = 0 extends 1 & T ? T
    : T extends string ? \`\${T}\`
    : T extends number ? (number extends T ? number : \`\${T}\` extends \`\${infer N extends number}\` ? N : never)
    : T extends (infer U)[] ? Plain<U>[]
    : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;`.replaceAll('\n', ' '),
  ...Object.keys(kinds).map((kind) =>
    `import type * as ${kind} from './node_modules/@grafana/schema/dist/types/raw/composable/${kind}/panelcfg/x/types.gen';`),
  'export const all: unknown[] = [];',
];
const what = lines.map(() => 'preamble');
function claim(name, type, value) {
  what.push(name);
  lines.push(`{ const one: Plain<${type}> = ${JSON.stringify(value)}; all.push(one); }`);
}

let panels = 0;
const files = fs.readdirSync(directory).filter((name) => name.endsWith('.json'));
for (const file of files) {
  const dashboard = JSON.parse(fs.readFileSync(path.join(directory, file), 'utf8'));
  claim(file, 'schema.Dashboard', { ...dashboard, panels: [] });
  for (const panel of dashboard.panels) {
    const name = `${file}, ${panel.title}`;
    if (panel.type === 'row') {
      claim(name, 'schema.RowPanel', panel);
      continue;
    }
    panels += 1;
    if (!kinds[panel.type]) throw new Error(`${name}: a ${panel.type} is unknown here; add its types`);
    claim(name, 'schema.Panel', panel);
    claim(name, `Partial<${panel.type}.Options>`, panel.options);
    const custom = panel.fieldConfig.defaults.custom;
    if (custom) claim(name, kinds[panel.type].includes('FieldConfig') ? `Partial<${panel.type}.FieldConfig>` : 'undefined', custom);
    for (const target of panel.targets) {
      claim(name, 'Partial<schema.DataQuery> & { expr: string, legendFormat: string, instant: boolean, range: boolean, '
        + "editorMode: 'code' | 'builder', format: 'time_series' | 'table' | 'heatmap' }", target);
    }
  }
}

fs.writeFileSync(made, lines.join('\n') + '\n');
const program = ts.createProgram([made], {
  noEmit: true, strict: true, skipLibCheck: true, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022,
  moduleResolution: ts.ModuleResolutionKind.Bundler, types: [],
});
const errors = ts.getPreEmitDiagnostics(program);
for (const error of errors) {
  const inside = error.file?.fileName.endsWith(path.basename(made));
  const where = inside ? what[error.file.getLineAndCharacterOfPosition(error.start).line] : error.file?.fileName;
  console.error(`${where}: ${ts.flattenDiagnosticMessageText(error.messageText, '\n  ')}`);
}
fs.rmSync(made);
console.log(`${files.length} dashboards, ${panels} panels checked against @grafana/schema: ${errors.length} errors`);
process.exit(errors.length ? 1 : 0);
