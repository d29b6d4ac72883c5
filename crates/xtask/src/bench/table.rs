//! Columns of text.

/// Rows as lines, each column as wide as its widest cell.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            let pad = " ".repeat(width - cell.chars().count());
            // Names to the left, figures to the right.
            if at == 0 { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A row of cells.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Per cent of the peak, which is that of 32-bit multiply-adds: what computes in fewer bits, by its name
/// or its kernel's, may be above it, so that it has no share.
pub(crate) fn share_of_peak(computes_in: &str, flops: Option<f64>, peak: f64) -> String {
    match flops {
        Some(_) if !computes_in.ends_with("f32") => "-".to_owned(),
        Some(flops) => format!("{:.0}", 100.0 * flops / peak),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computes_in_fewer_bits_has_no_share_of_the_peak_of_32() {
        for (name, flops, shown) in [
            ("avx2-f32", Some(20.0), "10"),
            ("st-f32", Some(250.0), "125"),
            ("st-f32", None, ""),
            ("amx-bf16", Some(800.0), "-"),
            ("st-bf16", Some(800.0), "-"),
            ("st-autocast", Some(800.0), "-"),
            ("ort-int8", Some(800.0), "-"),
        ] {
            assert_eq!(share_of_peak(name, flops, 200.0), shown, "{name}");
        }
    }

    #[test]
    fn names_stand_to_the_left_and_figures_to_the_right() {
        let rows = [row(["phase", "s"]), row(["Read", "0.051"]), row(["x"])];
        assert_eq!(aligned(&rows), "phase      s\nRead   0.051\nx");
    }
}
