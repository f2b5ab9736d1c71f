//! The kept corpora, and targets by the thousand.

mod corpora;
mod paths;
