// A dashboard's panels, drawn by Grafana's published UI components from answers of Prometheus.
//
// `render.mjs` puts {dashboard, answers, from, to} into the page. What a Grafana server does besides (its
// menus, variables, links and tooltips, transformations, its own copies of the panels) is not here.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries } from '@grafana/ui';
import {
  applyFieldOverrides, createTheme, dateTime, FieldConfigOptionsRegistry, FieldType, getDisplayProcessor,
  getMinMaxAndDelta, reduceField, standardEditorsRegistry, standardFieldConfigEditorRegistry, toDataFrame,
} from '@grafana/data';

const { dashboard, answers, from, to } = window.tenure;
const theme = createTheme({ colors: { mode: 'dark' } });
const COLUMN = 66;
const ROW = 30;
const GAP = 8;
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };

// `{{label}}` and `__auto`, as the Prometheus data source reads them.
const legend = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');

function framesOf(panel) {
  return panel.targets.flatMap((target) => (answers[target.expr] ?? []).map(({ metric, values }) => toDataFrame({
    refId: target.refId,
    name: legend(target.legendFormat, metric),
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([at]) => at * 1000) },
      {
        name: 'Value', type: FieldType.number, labels: metric,
        // As Grafana's own data source: what is not a number is a gap, not a reason to draw nothing.
        values: values.map(([, value]) => (Number.isNaN(Number(value)) ? null : Number(value))),
        config: { displayNameFromDS: legend(target.legendFormat, metric) },
      },
    ],
  })));
}

// Grafana applies those field options that a panel registers: here all that our dashboards use.
const option = (name, isCustom) => ({
  id: isCustom ? `custom.${name}` : name, path: name, name, isCustom, override: (value) => value,
  process: (value) => value, shouldApply: () => true,
});
const standard = ['unit', 'min', 'max', 'decimals', 'color', 'thresholds', 'mappings', 'noValue', 'displayName'];
const custom = ['drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'showPoints', 'spanNulls',
  'axisPlacement', 'stacking', 'thresholdsStyle'];
const options = () => [...standard.map((name) => option(name, false)), ...custom.map((name) => option(name, true))];
standardFieldConfigEditorRegistry.setInit(() => standard.map((name) => option(name, false)));
standardEditorsRegistry.setInit(() => []);
const registry = new FieldConfigOptionsRegistry(options);

function prepared(panel) {
  const frames = applyFieldOverrides({
    data: framesOf(panel), fieldConfig: panel.fieldConfig, replaceVariables: (text) => text, theme,
    timeZone: 'utc', fieldConfigRegistry: registry,
  });
  for (const frame of frames) {
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }
  return frames;
}

function Stat({ panel, width, height }) {
  const [frame] = prepared(panel);
  if (!frame) return <Nothing />;
  const field = frame.fields[1];
  const last = reduceField({ field, reducers: panel.options.reduceOptions.calcs })[panel.options.reduceOptions.calcs[0]];
  const sparkline = { x: frame.fields[0], y: { ...field, config: { ...field.config, ...getMinMaxAndDelta(field) } }, timeRange };
  const { colorMode, graphMode, justifyMode, textMode } = panel.options;
  return <BigValue theme={theme} width={width} height={height} value={{ ...field.display(last), title: '' }}
    colorMode={colorMode} graphMode={graphMode} justifyMode={justifyMode} textMode={textMode} sparkline={sparkline} />;
}

function Graph({ panel, width, height }) {
  const frames = prepared(panel);
  if (!frames.length) return <Nothing />;
  return <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone="utc"
    legend={panel.options.legend} />;
}

// Grafana's table is drawn on a canvas of its own size by a plug-in; its cells are what matters here.
function Rows({ panel }) {
  const hidden = ['__name__', ...Object.keys(panel.transformations?.[0]?.options?.excludeByName ?? {})];
  const rows = framesOf(panel).map((frame) => frame.fields[1].labels);
  if (!rows.length) return <Nothing />;
  const columns = [...new Set(rows.flatMap(Object.keys))].filter((name) => !hidden.includes(name));
  return (
    <table style={{ width: '100%', borderSpacing: 0 }}>
      <thead><tr>{columns.map((name) => <th key={name}>{name}</th>)}</tr></thead>
      <tbody>{rows.map((row, n) => <tr key={n}>{columns.map((name) => <td key={name}>{row[name]}</td>)}</tr>)}</tbody>
    </table>
  );
}

const Nothing = () => <div className="nothing">No data</div>;
const draw = { stat: Stat, timeseries: Graph, table: Rows };

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * COLUMN, top: y * (ROW + GAP), width: w * COLUMN - GAP, height: h * (ROW + GAP) - GAP };
  if (panel.type === 'row') return <div style={place} className="heading">{panel.title}</div>;
  const Kind = draw[panel.type];
  return (
    <div style={place}>
      <PanelChrome width={place.width} height={place.height} title={panel.title} description={panel.description}>
        {(width, height) => <Kind panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Page() {
  const rows = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id="dashboard" style={{ width: 24 * COLUMN + GAP, background: theme.colors.background.canvas }}>
        <h1>{dashboard.title}</h1>
        <p>{dashboard.description}</p>
        <div style={{ position: 'relative', height: rows * (ROW + GAP) }}>
          {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
        </div>
        <p className="note">Panels drawn by @grafana/ui {window.tenure.version} from data of Prometheus; not a picture of a Grafana server.</p>
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
