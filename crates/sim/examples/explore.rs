//! Explores the worlds by hand: `cargo run --release --example explore -- [name] [limit]`.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]
use lamplighter_sim::{explore::explore, scenario};

fn main() {
    let mut args = std::env::args().skip(1);
    let only = args.next().unwrap_or_default();
    let limit = args.next().and_then(|text| text.parse().ok()).unwrap_or(2_000_000);
    for found in scenario::all() {
        if !found.name.starts_with(&only) {
            continue;
        }
        let started = std::time::Instant::now();
        let report = explore(&found, limit);
        println!(
            "{:28} {:>8} states {:>9} moves {:>6} ms {}",
            found.name,
            report.states,
            report.moves,
            started.elapsed().as_millis(),
            if report.exhausted { "exhausted" } else { "" }
        );
        if let Some(text) = report.counterexample {
            println!("{text}");
            break;
        }
    }
}
