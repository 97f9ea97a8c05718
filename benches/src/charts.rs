//! Charts as SVG: bars in panels, and lines.

use std::path::Path;

use anyhow::anyhow;
use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::IntoLogRange;
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use crate::seen::Seen;

const INK: RGBColor = RGBColor(31, 35, 40);
const PALE_INK: RGBColor = RGBColor(101, 109, 118);
const TENURE: RGBColor = RGBColor(9, 105, 218);
const PEER: RGBColor = RGBColor(175, 184, 193);
const FLOOR: RGBColor = RGBColor(221, 226, 232);
const LINES: [RGBColor; 3] = [TENURE, RGBColor(207, 34, 46), RGBColor(26, 127, 55)];

const FONT: &str = "sans-serif";

/// The bars of one cell.
#[derive(Debug)]
pub(crate) struct Panel {
    title: String,
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    label: String,
    value: f64,
    text: String,
    colour: RGBColor,
}

impl Panel {
    pub(crate) fn of(
        title: &str,
        seen: &[Seen],
        value: impl Fn(&Seen) -> Option<f64>,
        text: impl Fn(f64) -> String,
    ) -> Self {
        let bars = seen
            .iter()
            .filter_map(|seen| {
                let value = value(seen).filter(|value| value.is_finite() && *value > 0.0)?;
                let colour = match seen.variant {
                    variant if variant.is_tenure => TENURE,
                    variant if variant.is_floor => FLOOR,
                    _ => PEER,
                };
                Some(Bar { label: seen.label.clone(), value, text: text(value), colour })
            })
            .collect();
        Self { title: title.to_owned(), bars }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Geometry of [`panels`], in pixels.
const COLUMNS: usize = 3;
const PANEL_WIDTH: i32 = 400;
const BAR_HEIGHT: i32 = 13;
/// From the top of a bar to that of its text.
const TEXT_DROP: i32 = 2;
const BAR_STEP: i32 = 18;
const LABELS_WIDTH: i32 = 150;
const VALUES_WIDTH: i32 = 65;
const PANEL_TITLE: i32 = 26;
const PANEL_GAP: i32 = 18;
const MARGIN: i32 = 16;
const HEADING: i32 = 62;

/// Horizontal bars, one panel for each cell; all have one logarithmic scale.
pub(crate) fn panels(path: &Path, title: &str, note: &str, panels: &[Panel]) -> anyhow::Result<()> {
    let values = || panels.iter().flat_map(|panel| &panel.bars).map(|bar| bar.value);
    let (lowest, highest) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    if lowest > highest {
        return Ok(());
    }
    // So that the shortest bar can be seen.
    let origin = lowest / 2.0;
    let full = PANEL_WIDTH - LABELS_WIDTH - VALUES_WIDTH;
    let length = |value: f64| {
        let share = (value / origin).ln() / (highest / origin).ln();
        (share * f64::from(full)).round() as i32
    };

    let height_of = |row: &[Panel]| {
        let bars = row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        PANEL_TITLE + BAR_STEP * bars as i32 + PANEL_GAP
    };
    let columns = COLUMNS.min(panels.len());
    let width = 2 * MARGIN + PANEL_WIDTH * columns as i32;
    let height = HEADING + panels.chunks(columns).map(height_of).sum::<i32>() + MARGIN;
    let root = area(path, width, height)?;
    write(&root, title, (MARGIN, MARGIN), 20, INK, HPos::Left)?;
    write(&root, note, (MARGIN, MARGIN + 25), 13, PALE_INK, HPos::Left)?;

    let mut top = HEADING;
    for row in panels.chunks(columns) {
        for (column, panel) in row.iter().enumerate() {
            let left = MARGIN + PANEL_WIDTH * column as i32;
            let bars_at = left + LABELS_WIDTH;
            write(&root, &panel.title, (bars_at, top), 14, INK, HPos::Left)?;
            for (number, bar) in panel.bars.iter().enumerate() {
                let y = top + PANEL_TITLE + BAR_STEP * number as i32;
                let end = bars_at + length(bar.value);
                write(&root, &bar.label, (bars_at - 6, y + TEXT_DROP), 12, INK, HPos::Right)?;
                let fill = ShapeStyle::from(bar.colour).filled();
                draw(root.draw(&Rectangle::new([(bars_at, y), (end, y + BAR_HEIGHT)], fill)))?;
                write(&root, &bar.text, (end + 5, y + TEXT_DROP), 12, INK, HPos::Left)?;
            }
        }
        top += height_of(row);
    }
    draw(root.present())
}

/// A row of points.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over a logarithmic axis, from 0 upwards.
pub(crate) fn lines(path: &Path, title: &str, below: &str, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points).copied();
    let right = points().map(|(x, _)| x).fold(f64::MIN, f64::max);
    let top = points().map(|(_, y)| y).fold(f64::MIN, f64::max);
    if !(right > 1.0 && top.is_finite()) {
        return Ok(());
    }
    let root = area(path, 720, 420)?;
    let mut chart = draw(
        ChartBuilder::on(&root)
            .margin(MARGIN)
            .caption(title, text(20, INK))
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d((1.0..right).log_scale().base(2.0), 0.0..top * 1.3),
    )?;
    draw(
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(FLOOR)
            .axis_style(PALE_INK)
            .label_style(text(12, INK))
            .x_desc(below)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw(),
    )?;
    for (line, colour) in lines.iter().zip(LINES) {
        draw(chart.draw_series(LineSeries::new(
            line.points.iter().copied(),
            ShapeStyle::from(colour).stroke_width(2),
        )))?
        .label(&line.label)
        .legend(move |(x, y)| {
            PathElement::new([(x, y), (x + 18, y)], ShapeStyle::from(colour).stroke_width(2))
        });
        let dot = |&point| Circle::new(point, 3, colour.filled());
        draw(chart.draw_series(line.points.iter().map(dot)))?;
    }
    draw(
        chart
            .configure_series_labels()
            .label_font(text(13, INK))
            .background_style(WHITE)
            .position(plotters::chart::SeriesLabelPosition::UpperRight)
            .draw(),
    )?;
    draw(root.present())
}

fn area(path: &Path, width: i32, height: i32) -> anyhow::Result<Area<'_>> {
    let root =
        SVGBackend::new(path, (width.unsigned_abs(), height.unsigned_abs())).into_drawing_area();
    draw(root.fill(&WHITE))?;
    Ok(root)
}

fn text(size: i32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().transform(FontTransform::None).color(&colour)
}

fn write(
    root: &Area<'_>,
    words: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    side: HPos,
) -> anyhow::Result<()> {
    let style = text(size, colour).pos(Pos::new(side, VPos::Top));
    draw(root.draw(&Text::new(words.to_owned(), at, style)))
}

/// plotters' errors name the drawing backend's in their type.
fn draw<T, E: std::fmt::Display>(result: Result<T, E>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow!("a chart cannot be drawn: {error}"))
}
