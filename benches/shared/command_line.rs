//! The command lines of the benchmarks.

use std::env;
use std::process::exit;
use std::str::FromStr;

/// Returns the arguments of `cargo bench`. Ends the program with a sentence about `only`, where something else runs it:
/// `cargo test --benches` passes no `--bench`.
pub(crate) fn arguments(only: &str) -> Vec<String> {
    let (marks, arguments): (Vec<String>, _) =
        env::args().skip(1).partition(|argument| argument == "--bench");
    if marks.is_empty() {
        println!("Only `cargo bench` {only}.");
        exit(0);
    }
    arguments
}

/// Returns the options. Ends the program with the reason and the usage if they are wrong.
pub(crate) fn options<T>(parsed: Result<T, String>, usage: &str) -> T {
    parsed.unwrap_or_else(|error| {
        eprintln!("{error}\n{usage}");
        exit(2);
    })
}

/// Returns the next argument, which is the value of `option`.
pub(crate) fn value<'a>(
    option: &str,
    arguments: &mut impl Iterator<Item = &'a String>,
) -> Result<&'a str, String> {
    arguments.next().map(String::as_str).ok_or_else(|| format!("{option} needs a value"))
}

/// Returns a number above 0.
pub(crate) fn number<T: FromStr + Default + PartialOrd>(option: &str, value: &str) -> Result<T, String> {
    let number = value.parse().ok().filter(|number| *number > T::default());
    number.ok_or_else(|| format!("{option} {value}: that is no number above 0"))
}

/// Returns the items of a list with commas, each as `item` reads it.
pub(crate) fn list<T>(value: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.split(',').map(item).collect()
}
