//! What a person who reads the run sees.

pub fn step(name: &str) {
    println!("\n{name}");
}

/// One line about what was seen.
macro_rules! say {
    ($($what:tt)*) => { println!("    {}", format_args!($($what)*)) };
}
pub(crate) use say;
