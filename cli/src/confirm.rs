//! A question before what cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

/// Asks at the terminal; only `yes` is a yes. Where there is no terminal, nobody said it.
pub fn confirmed(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut err = io::stderr();
    write!(err, "{question}: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
