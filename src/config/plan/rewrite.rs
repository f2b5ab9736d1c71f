//! A path for the upstream that is not the one that was matched.

use regex::Regex;

#[derive(Debug, Clone)]
pub struct RewritePlan {
    /// Matches whole paths only, in linear time.
    pub pattern: Regex,
    pub to: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// The name of a group of the pattern; one that took no part is empty.
    Group(String),
}

impl RewritePlan {
    /// `None` if the pattern does not match the path.
    pub fn apply(&self, path: &str) -> Option<String> {
        let groups = self.pattern.captures(path)?;
        let pieces = self.to.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Group(name) => groups.name(name).map_or("", |group| group.as_str()),
        });
        Some(pieces.collect())
    }
}
