//! A picture of a run: one line for memory, one for descriptors, one for threads.

use std::fmt::Write as _;

use super::samples::Sample;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 45.0;
/// More points than pixels show nothing more.
const POINTS: usize = 900;

/// What of a sample a line shows.
type Of = fn(&Sample) -> f64;

/// An SVG document.
pub(crate) fn svg(samples: &[Sample], title: &str) -> String {
    let rows: [(&str, Of); 3] = [
        ("resident memory, MB", |at| at.resident_bytes / (1024.0 * 1024.0)),
        ("open descriptors", |at| at.descriptors),
        ("threads", |at| at.threads),
    ];
    let height = GAP + (HEIGHT + GAP) * 3.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>",
        WIDTH + LEFT + 20.0,
        title.replace('&', "&amp;").replace('<', "&lt;")
    );
    for (row, (name, of)) in (0_u8..).zip(rows) {
        let top = GAP + f64::from(row) * (HEIGHT + GAP);
        out.push_str(&panel(samples, name, of, top));
    }
    out.push_str("</svg>\n");
    out
}

fn panel(samples: &[Sample], name: &str, of: Of, top: f64) -> String {
    let most = samples.iter().map(of).fold(0.0, f64::max).max(1.0) * 1.1;
    let end = samples.last().map_or(1.0, |at| at.seconds).max(1.0);
    let every = samples.len().div_ceil(POINTS).max(1);
    let place = |at: &Sample| {
        let x = LEFT + at.seconds / end * WIDTH;
        let y = top + HEIGHT - of(at) / most * HEIGHT;
        format!("{x:.1},{y:.1}")
    };
    let points: Vec<String> = samples.iter().step_by(every).map(place).collect();
    let bottom = top + HEIGHT;
    let mut out = String::new();
    for part in [0.0, 0.5, 1.0] {
        let y = bottom - part * HEIGHT;
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT},{y} h{WIDTH}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.1}</text>",
            LEFT - 6.0,
            y + 4.0,
            part * most
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">{name}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.5\"/>",
        top - 6.0,
        LEFT + WIDTH,
        bottom + 16.0,
        points.join(" ")
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_line_for_each_and_no_more_points_than_pixels() {
        let at = |second: u32| Sample {
            seconds: f64::from(second),
            resident_bytes: 1e8,
            peak_bytes: 0.0,
            descriptors: 12.0,
            threads: 7.0,
            is_reloading: false,
        };
        let samples: Vec<Sample> = (0..5_000).map(at).collect();
        let svg = svg(&samples, "a < b");
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("a &lt; b"));
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let count = points.split(' ').count();
        assert!((100..=POINTS).contains(&count), "{count}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
