//! Recall and p99 against selectivity, as an SVG that stands by itself.

use std::fmt;

use crate::{ask::percent, measure::Row};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 220.0;
const PANEL: f64 = 240.0;
const GAP: f64 = 60.0;
const TOP: f64 = 44.0;
const COLOURS: [&str; 10] =
    ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#7a7a7a"];

/// Both panels.
#[derive(Debug)]
pub(crate) struct Plot<'a> {
    products: usize,
    /// Rows of one kind, by share.
    kinds: Vec<(&'static str, Vec<&'a Row>)>,
    unfiltered: Option<&'a Row>,
    /// The least of the recall axis.
    recall_min: f64,
    p99_max_ms: f64,
}

impl<'a> Plot<'a> {
    /// Of the rows that search by photo.
    pub(crate) fn of(rows: &'a [Row], products: usize) -> Self {
        let mut kinds: Vec<(&'static str, Vec<&Row>)> = Vec::new();
        let (mut unfiltered, mut recall_min, mut p99_max_ms) = (None, 0.95_f64, 1.0_f64);
        for row in rows.iter().filter(|row| !row.words) {
            recall_min = recall_min.min(row.recall);
            p99_max_ms = p99_max_ms.max(row.p99_ms);
            if row.kind == "no filter" {
                unfiltered = Some(row);
            } else if let Some((_, rows)) = kinds.iter_mut().find(|(kind, _)| *kind == row.kind) {
                rows.push(row);
            } else {
                kinds.push((row.kind, vec![row]));
            }
        }
        // To the next lower twentieth, and the next higher even number.
        let (recall_min, p99_max_ms) = ((recall_min * 20.0).floor() / 20.0, (p99_max_ms / 2.0).ceil() * 2.0);
        Self { products, kinds, unfiltered, recall_min, p99_max_ms }
    }

    fn panel(
        &self,
        f: &mut fmt::Formatter<'_>,
        (nth, title): (f64, &str),
        (low, high): (f64, f64),
        value: impl Fn(&Row) -> f64,
    ) -> fmt::Result {
        let top = TOP + nth * (PANEL + GAP);
        let (bottom, right) = (top + PANEL, WIDTH - RIGHT);
        // From 0.01 % to all: four powers of ten.
        let x = |share: f64| LEFT + (share.log10() + 4.0) / 4.0 * (right - LEFT);
        let y = |value: f64| bottom - (value - low) / (high - low) * PANEL;
        write!(f, r#"<text x="{LEFT}" y="{}">{title}</text>"#, top - 10.0)?;
        for step in 0..=5 {
            let mark = low + (high - low) * f64::from(step) / 5.0;
            let at = y(mark);
            write!(f, r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/>"##)?;
            let digits = if high - low < 2.0 { 2 } else { 1 };
            write!(f, r#"<text x="{}" y="{:.1}" text-anchor="end">{mark:.digits$}</text>"#, LEFT - 6.0, at + 4.0)?;
        }
        for share in crate::ask::SHARES {
            let (at, label) = (x(share), percent(share));
            write!(f, r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, bottom + 18.0)?;
        }
        if let Some(row) = self.unfiltered {
            let at = y(value(row));
            write!(f, r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#333" stroke-dasharray="6 4"/>"##)?;
        }
        for ((_, rows), colour) in self.kinds.iter().zip(COLOURS) {
            write!(f, r#"<path fill="none" stroke="{colour}" stroke-width="1.8" d=""#)?;
            for (place, row) in rows.iter().enumerate() {
                let letter = if place == 0 { 'M' } else { 'L' };
                write!(f, "{letter}{:.1} {:.1}", x(row.share), y(value(row)))?;
            }
            write!(f, r#""/>"#)?;
            for row in rows {
                write!(f, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, x(row.share), y(value(row)))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let height = TOP + 2.0 * PANEL + GAP + 40.0;
        write!(f, r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" "#)?;
        write!(f, r#"font-family="sans-serif" font-size="12">"#)?;
        write!(f, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
        let recall = format!("recall@10 by share of {} products that pass the filter", self.products);
        self.panel(f, (0.0, &recall), (self.recall_min, 1.0), |row| row.recall)?;
        self.panel(f, (1.0, "p99, ms"), (0.0, self.p99_max_ms), |row| row.p99_ms)?;
        let left = WIDTH - RIGHT + 16.0;
        let names = self.kinds.iter().map(|(kind, _)| *kind).zip(COLOURS).chain([("no filter", "#333")]);
        for (place, (name, colour)) in (0..).map(f64::from).zip(names) {
            let y = TOP + 20.0 * place;
            write!(f, r#"<rect x="{left}" y="{y}" width="12" height="12" fill="{colour}"/>"#)?;
            write!(f, r#"<text x="{}" y="{}">{}</text>"#, left + 18.0, y + 10.0, name.replace('\'', "’"))?;
        }
        writeln!(f, "</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &'static str, share: f64, recall: f64) -> Row {
        Row {
            name: String::new(),
            kind,
            share,
            words: false,
            passed: 1.0,
            recall,
            p50_ms: 1.0,
            p99_ms: 3.0,
            max_ms: 3.0,
            mean_ms: 1.0,
            index_ms: 1.0,
        }
    }

    #[test]
    fn each_kind_has_a_line_in_both_panels_and_the_axis_holds_the_worst_recall() {
        let rows = [row("no filter", 1.0, 1.0), row("price range", 0.01, 1.0), row("price range", 0.1, 0.876)];
        let plot = Plot::of(&rows, 1000);
        assert!((plot.recall_min - 0.85).abs() < 1e-9, "{}", plot.recall_min);
        let svg = plot.to_string();
        assert_eq!((svg.matches("stroke-width").count(), svg.matches("<circle").count()), (2, 4));
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
    }
}
