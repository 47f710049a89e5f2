//! The tables that a demo prints.

/// Lines of a table, each printed as soon as its step is done.
#[derive(Default)]
pub struct Steps {
    rows: usize,
}

impl Steps {
    /// Prints what went into a step and what came out of it.
    pub fn row(&mut self, step: &str, went_in: &str, came_out: &str) {
        if self.rows == 0 {
            println!("{:30} {:16} out", "step", "in");
        }
        self.rows += 1;
        println!("{step:30} {went_in:16} {came_out}");
    }
}

/// Prints rows in columns as wide as what is in them.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths);
        let padded = padded.map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    println!("{}", line(head.to_vec()));
    for row in rows {
        println!("{}", line(row.iter().map(String::as_str).collect()));
    }
}
