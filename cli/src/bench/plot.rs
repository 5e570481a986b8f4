//! Throughput over time as an SVG picture, rotations marked.

use plotters::prelude::*;

use super::cell::Level;
use super::report::Report;
use super::run::Run;

/// The content of `throughput.svg`: the last turn of each cell.
pub(super) fn render(report: &Report) -> anyhow::Result<String> {
    let mut picture = String::new();
    let runs: Vec<&Run> = report.runs.last().into_iter().flatten().collect();
    let longest = runs.iter().flat_map(|run| &run.timeline).map(|(seconds, _)| *seconds).fold(1.0, f64::max);
    let rows = Level::ALL.map(|level| runs.iter().copied().filter(|run| run.cell.level == level).collect::<Vec<_>>());
    let rows: Vec<_> = rows.into_iter().filter(|row| !row.is_empty()).collect();
    if rows.is_empty() {
        return Ok(picture);
    }
    let height = u32::try_from(rows.len())? * ROW_HEIGHT;
    let area = SVGBackend::with_string(&mut picture, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    for (row, panel) in rows.iter().zip(area.split_evenly((rows.len(), 1))) {
        let highest = row.iter().flat_map(|run| &run.timeline).map(|(_, rate)| *rate).fold(0.1, f64::max);
        let level = row.first().map_or("", |run| run.cell.level.name());
        let mut chart = ChartBuilder::on(&panel)
            .caption(format!("{level}: GiB/s over seconds"), ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..longest, 0.0..highest * 1.1)?;
        chart.configure_mesh().light_line_style(TRANSPARENT).x_labels(12).y_labels(6).draw()?;
        for (index, run) in row.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let line = LineSeries::new(run.timeline.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(line)?
                .label(run.cell.to_string())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
            let rate_at =
                |time: f64| run.timeline.iter().find(|(seconds, _)| *seconds >= time).map_or(0.0, |(_, rate)| *rate);
            let marks = run.rotations.iter().map(|time| Circle::new((*time, rate_at(*time)), 4, colour.filled()));
            chart.draw_series(marks)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 11))
            .draw()?;
    }
    area.present()?;
    drop(area);
    Ok(picture)
}

const WIDTH: u32 = 1000;
const ROW_HEIGHT: u32 = 380;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn lines_and_marks_are_drawn() {
        let picture = render(&report()).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        assert!(picture.matches("<polyline").count() >= 3, "a line for each run");
        assert!(picture.contains("<circle"), "the rotation is marked");
        assert!(picture.contains("a rotation every 1 s, renew"));
    }
}
