// Draws the dashboards' panels to PNG files, from what a running Prometheus has.
//
//   node render.mjs http://127.0.0.1:9090 FROM TO DIRECTORY     times in seconds since 1970
//
// The panels are drawn by Grafana's published components (@grafana/ui) in a headless Chromium; there is no
// Grafana server. CHROMIUM names the browser, `chromium` otherwise.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execFileSync } from 'node:child_process';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';

const [prometheus, start, end, target] = process.argv.slice(2);
if (!target) {
  console.error('usage: node render.mjs PROMETHEUS FROM TO DIRECTORY');
  process.exit(2);
}
const here = fileURLToPath(new URL('.', import.meta.url));
const version = JSON.parse(fs.readFileSync(path.join(here, 'node_modules/@grafana/ui/package.json'))).version;
const [from, to] = [Number(start) * 1000, Number(end) * 1000];
const step = Math.max(1, Math.round((to - from) / 300000));

async function answer({ expr, instant }) {
  // What Grafana puts in: four scrape intervals; here those of .ci/grafana-live.
  const query = expr.replaceAll('$__rate_interval', '20s').replace(/\$(job|instance|pool)/g, '.+');
  const parameters = instant ? { query, time: to / 1000 } : { query, start: from / 1000, end: to / 1000, step };
  const asked = `${prometheus}/api/v1/${instant ? 'query' : 'query_range'}?${new URLSearchParams(parameters)}`;
  const answered = await (await fetch(asked)).json();
  if (answered.status !== 'success') throw new Error(`${query}: ${answered.error}`);
  return answered.data.result.map(({ metric, values, value }) => ({ metric, values: values ?? [value] }));
}

const bundle = await build({
  entryPoints: [path.join(here, 'app.jsx')], bundle: true, write: false, outdir: '/', minify: true, format: 'iife',
  jsx: 'automatic', define: { 'process.env.NODE_ENV': '"production"', global: 'window' }, logLevel: 'error',
  loader: { '.woff': 'dataurl', '.woff2': 'dataurl', '.svg': 'dataurl', '.ttf': 'dataurl', '.eot': 'dataurl', '.png': 'dataurl', '.gif': 'dataurl' },
});
const script = bundle.outputFiles.find(({ path: name }) => name.endsWith('.js')).text;
const css = bundle.outputFiles.filter(({ path: name }) => name.endsWith('.css')).map(({ text }) => text).join('\n');
const style = `${css}
  body { margin: 0; font-family: "DejaVu Sans", sans-serif; }
  #dashboard { padding: 12px; box-sizing: content-box; } h1 { font-size: 20px; margin: 0 } p { margin: 4px 0 12px; }
  .heading { font-size: 15px; font-weight: 500; padding-top: 8px } .note { margin-top: 12px; opacity: .7 }
  .nothing { height: 100%; display: grid; place-items: center; opacity: .6 }
  th, td { text-align: left; padding: 2px 8px; border-bottom: 1px solid #444 }`;

const executablePath = process.env.CHROMIUM ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim();
const browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox', '--hide-scrollbars'] });
fs.mkdirSync(target, { recursive: true });
let wrong = 0;
try {
  const dashboards = path.join(here, '..', 'dashboards');
  for (const file of fs.readdirSync(dashboards).filter((name) => name.endsWith('.json'))) {
    const dashboard = JSON.parse(fs.readFileSync(path.join(dashboards, file), 'utf8'));
    const answers = {};
    for (const one of dashboard.panels.flatMap((panel) => panel.targets ?? [])) answers[one.expr] = await answer(one);
    const page = await browser.newPage();
    page.on('pageerror', (error) => { wrong += 1; console.error(`${file}: ${error.message}`); });
    page.on('console', (message) => { if (message.type() === 'error' && !/404/.test(message.text())) console.error(`${file}: ${message.text()}`); });
    await page.setViewport({ width: 1640, height: 1200 });
    // A page of an origin, since the components look into localStorage; nothing is fetched from anywhere.
    await page.setRequestInterception(true);
    page.on('request', (request) => (request.isNavigationRequest()
      ? request.respond({ contentType: 'text/html', body: `<!doctype html><style>${style}</style><div id="root"></div>` })
      : request.respond({ status: 404, body: '' })));
    await page.goto('http://localhost/');
    await page.evaluate((given) => { window.tenure = given; }, { dashboard, answers, from, to, version });
    await page.addScriptTag({ content: script });
    await page.waitForSelector('#dashboard', { timeout: 30000 });
    await new Promise((done) => setTimeout(done, 1500));
    const empty = await page.$$eval('.nothing', (found) => found.length);
    const graphs = await page.$$eval('canvas', (found) => found.length);
    const picture = path.join(target, `${path.basename(file, '.json')}.png`);
    await (await page.$('#dashboard')).screenshot({ path: picture });
    const panels = dashboard.panels.filter(({ type }) => type !== 'row').length;
    console.log(`${picture}: ${panels} panels, ${graphs} canvases, ${empty} without data`);
    await page.close();
  }
} finally {
  await browser.close();
}
process.exit(wrong ? 1 : 0);
