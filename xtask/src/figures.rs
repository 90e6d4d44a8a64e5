//! The paper's figures, computed anew, beside the paper's own numbers: a table and a picture in `docs/`.

use std::fmt::Write;

use anyhow::Context;

use crate::run::{build, output, root};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 56.0;
/// The efficiencies that the picture shows.
const LEAST: f64 = 0.5;
const COLOURS: [&str; 3] = ["#c0392b", "#7f8c8d", "#2471a3"];
const NAMES: [&str; 3] = [
    "strategy 1: random tokens",
    "strategy 2: random tokens, equal partitions",
    "strategy 3: equal partitions and tokens",
];

/// Metadata units, and for each strategy our efficiency and the paper's.
struct Row {
    units: u32,
    strategies: [(f64, f64); 3],
}

pub(crate) fn run() -> anyhow::Result<()> {
    let program = build("gramme-ring", &["--example", "figure_8"], true)?;
    let printed = output(&program.display().to_string(), &[])?;
    let rows = printed.lines().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    let docs = root().join("docs");
    let table = table(&rows);
    print!("{table}");
    std::fs::write(docs.join("figure-8.md"), page(&table))?;
    std::fs::write(docs.join("figure-8.svg"), picture(&rows))?;
    println!("written: docs/figure-8.md, docs/figure-8.svg");
    Ok(())
}

fn parse(line: &str) -> anyhow::Result<Row> {
    let words: Vec<&str> = line.split(' ').collect();
    let [units, numbers @ ..] = words.as_slice() else { anyhow::bail!("an empty line") };
    let numbers: Vec<f64> = numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [a, b, c, d, e, f] = numbers[..] else { anyhow::bail!("six numbers in '{line}'") };
    Ok(Row { units: units.parse().context("units")?, strategies: [(a, b), (c, d), (e, f)] })
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| metadata units | strategy 1 | paper | strategy 2 | paper | strategy 3 | paper |\n|---|---|---|---|---|---|---|\n",
    );
    for Row { units, strategies } in rows {
        let cells: Vec<_> =
            strategies.iter().map(|(ours, paper)| format!("{ours:.3} | {paper:.2}")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {units} | {} |", cells.join(" | "));
    }
    table
}

fn page(table: &str) -> String {
    format!(
        "# Figure 8\n\n\
         Efficiency, the mean load over the greatest load, at 30 nodes and N=3 with uniform keys and random\n\
         placement: section 6.2 of the paper, computed anew. `cargo xtask figures` writes this page.\n\n\
         ![efficiency by metadata](figure-8.svg)\n\n{table}\n\
         Metadata units are tokens for strategy 1 and partitions for strategy 3. The paper does not say how\n\
         strategy 2 splits its metadata between the two; here it is half and half, so its row is a shape and no\n\
         more. Gramme places partitions as strategy 3 does, and not at random: its planner reaches 0.99 or more\n\
         wherever the nodes divide Q×N.\n"
    )
}

/// Where a point lies: metadata on a logarithmic scale, efficiency on a linear one.
fn place(rows: &[Row], at: usize, efficiency: f64) -> (f64, f64) {
    let x = MARGIN + (WIDTH - 2.0 * MARGIN) * at as f64 / (rows.len() - 1) as f64;
    let y = HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (efficiency - LEAST) / (1.0 - LEAST);
    (x, y)
}

fn picture(rows: &[Row]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for step in 0..=5 {
        let efficiency = LEAST + 0.1 * f64::from(step);
        let (left, y) = place(rows, 0, efficiency);
        let right = WIDTH - MARGIN;
        let _ = writeln!(svg, "<path d=\"M{left:.0} {y:.1}H{right:.0}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{efficiency:.1}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let (x, y) = place(rows, at, LEAST);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 18.0,
            row.units
        );
    }
    for strategy in 0..3 {
        svg += &curve(rows, strategy);
    }
    let (x, y) = (WIDTH / 2.0, HEIGHT - 12.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">metadata units; circles: the paper</text>\n</svg>"
    );
    svg
}

fn curve(rows: &[Row], strategy: usize) -> String {
    let colour = COLOURS[strategy];
    let points: Vec<_> = (0..rows.len()).map(|at| place(rows, at, rows[at].strategies[strategy].0)).collect();
    let line: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut curve = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
        line.join(" ")
    );
    for at in 0..rows.len() {
        let (x, y) = place(rows, at, rows[at].strategies[strategy].1);
        let _ = writeln!(
            curve,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"none\" stroke=\"{colour}\"/>"
        );
    }
    let y = HEIGHT - MARGIN - 60.0 + 18.0 * strategy as f64;
    let _ = writeln!(
        curve,
        "<text x=\"{:.0}\" y=\"{y:.0}\" fill=\"{colour}\">{}</text>",
        WIDTH - MARGIN - 270.0,
        NAMES[strategy]
    );
    curve
}
