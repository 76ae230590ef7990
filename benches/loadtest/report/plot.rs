//! Plots as SVG that stands in the page: no scripts, no files, and colours that print.

use std::fmt;

use super::html::Escaped;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;

/// An axis from 0 to `max`, with marks.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) max: f64,
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that reaches at least `max`, with round marks.
    pub(super) fn round(label: &'static str, max: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        // The first of 1, 2, 5, 10, 20 … that needs at most six marks.
        let power = 10_f64.powf((max / 6.0).log10().floor());
        let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| max / step <= 6.0);
        let step = step.unwrap_or(10.0 * power);
        let digits = if step >= 1.0 {
            0
        } else if step >= 0.1 {
            1
        } else {
            3
        };
        let marks = (0..=7).map(f64::from).map(|count| count * step).take_while(|mark| *mark < max + step);
        let marks: Vec<_> = marks.map(|mark| (mark, format!("{mark:.digits$}"))).collect();
        Self { label, max: marks.last().map_or(max, |(mark, _)| *mark), marks }
    }

    /// The same axis, ended at exactly `max`.
    pub(super) fn ended_at(mut self, max: f64) -> Self {
        self.marks.retain(|(mark, _)| *mark <= max);
        self.max = max;
        self
    }
}

/// A named row of values.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: &'static str,
    /// Places and values, in order of place; nothing where there is no value.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// A plot with its axes and its legend.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    pub(super) form: Form,
}

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A line each; a gap where there is no value.
    Lines,
    /// Bars on top of each other, one unit wide, the first series lowest; all series have the same places.
    Stacked,
}

impl Plot {
    fn x(&self, place: f64) -> f64 {
        LEFT + place / self.x.max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.y.max * (HEIGHT - TOP - BOTTOM)
    }

    fn write_axes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (mark, label) in &self.y.marks {
            let y = self.y(*mark);
            write!(f, r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#e3e3e3"/>"##)?;
            write!(f, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 6.0, y + 4.0)?;
        }
        for (mark, label) in &self.x.marks {
            let x = self.x(*mark);
            write!(f, r##"<path d="M{x:.1} {bottom}v4" stroke="#888"/>"##)?;
            write!(f, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, bottom + 17.0)?;
        }
        write!(f, r##"<path d="M{LEFT} {bottom}H{right}" stroke="#888"/>"##)?;
        let middle = f64::midpoint(LEFT, right);
        write!(f, r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, HEIGHT - 8.0, self.x.label)?;
        write!(f, r#"<text x="8" y="{:.1}">{}</text>"#, TOP - 16.0, self.y.label)
    }

    fn write_legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = LEFT + 90.0;
        for Series { name, colour, .. } in &self.series {
            let (y, text) = (TOP - 26.0, TOP - 16.0);
            write!(f, r#"<rect x="{x:.1}" y="{y}" width="12" height="12" fill="{colour}"/>"#)?;
            write!(f, r#"<text x="{:.1}" y="{text}">{}</text>"#, x + 17.0, Escaped(name))?;
            // 8.5: the width of a capital, in the page's font and size.
            x += name.chars().map(|_| 8.5).sum::<f64>() + 34.0;
        }
        Ok(())
    }

    fn write_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Series { colour, points, .. } in &self.series {
            write!(f, r#"<path fill="none" stroke="{colour}" stroke-width="1.8" stroke-linecap="round" d=""#)?;
            let mut drawing = false;
            for (place, value) in points {
                if let Some(value) = value {
                    let (x, y) = (self.x(*place), self.y(*value));
                    // `h0` makes a point of its own visible.
                    if drawing { write!(f, "L{x:.1} {y:.1}")? } else { write!(f, "M{x:.1} {y:.1}h0")? }
                }
                drawing = value.is_some();
            }
            f.write_str(r#""/>"#)?;
        }
        Ok(())
    }

    fn write_stacked(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.series.first().map_or(0, |series| series.points.len());
        let mut base = vec![0.0; places];
        for Series { colour, points, .. } in &self.series {
            write!(f, r#"<path fill="{colour}" d=""#)?;
            for ((place, value), base) in points.iter().zip(&mut base) {
                let value = value.unwrap_or(0.0);
                if value > 0.0 {
                    let (left, right) = (self.x(*place), self.x(place + 1.0));
                    let (low, high) = (self.y(*base), self.y(*base + value));
                    write!(f, "M{left:.1} {low:.1}V{high:.1}H{right:.1}V{low:.1}z")?;
                    *base += value;
                }
            }
            f.write_str(r#""/>"#)?;
        }
        Ok(())
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<figure><figcaption>{}</figcaption>", self.title)?;
        write!(f, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, self.title)?;
        self.write_axes(f)?;
        match self.form {
            Form::Lines => self.write_lines(f)?,
            Form::Stacked => self.write_stacked(f)?,
        }
        self.write_legend(f)?;
        writeln!(f, "</svg></figure>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(form: Form, rows: &[&[Option<f64>]]) -> String {
        let series = rows.iter().map(|values| Series {
            name: "a <b>".to_owned(),
            colour: "#000",
            points: values
                .iter()
                .enumerate()
                .map(|(place, value)| (f64::from(u8::try_from(place).unwrap()), *value))
                .collect(),
        });
        let axis = |label| Axis::round(label, 4.0);
        Plot { title: "t", x: axis("s"), y: axis("ms"), series: series.collect(), form }.to_string()
    }

    #[test]
    fn an_axis_reaches_its_maximum_with_few_round_marks() {
        for (max, expected) in [(0.0, 1.0), (0.07, 0.08), (1.0, 1.0), (59.0, 60.0), (61.0, 80.0), (999.0, 1000.0)] {
            let axis = Axis::round("ms", max);
            assert!((axis.max - expected).abs() < 1e-9, "{max}: {axis:?}");
            assert!((3..=8).contains(&axis.marks.len()), "{max}: {axis:?}");
        }
    }

    #[test]
    fn a_line_breaks_where_there_is_no_value() {
        let svg = plot(Form::Lines, &[&[Some(1.0), Some(2.0), None, Some(1.0)]]);
        let line = svg.split("round\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1), "{line}");
    }

    #[test]
    fn bars_stand_on_those_below() {
        let svg = plot(Form::Stacked, &[&[Some(1.0)], &[Some(3.0)]]);
        let bars: Vec<_> =
            svg.split("fill=\"#000\" d=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let top_of_first = bars[0].split('V').nth(1).unwrap().split('H').next().unwrap();
        assert!(bars[1].starts_with(&format!("M64.0 {top_of_first}V")), "{bars:?}");
    }

    #[test]
    fn names_are_escaped() {
        assert!(plot(Form::Lines, &[&[None]]).contains("a &lt;b&gt;"));
    }
}
