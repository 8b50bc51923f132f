//! Lines of CSV (RFC 4180).

/// One line, without its end.
pub(crate) fn csv_line<T: AsRef<str>>(cells: &[T]) -> String {
    let quoted = |cell: &T| {
        let cell = cell.as_ref();
        match cell.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_owned(),
        }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_cell_is_quoted() {
        let cells = ["a", "", "b,c", "say \"x\"", "two\nlines", " d "];
        assert_eq!(csv_line(&cells), "a,,\"b,c\",\"say \"\"x\"\"\",\"two\nlines\", d ");
    }
}
