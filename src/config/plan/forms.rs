//! The words of `routes[].allow_target`.

/// A set of forms of a path that two servers may read differently.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetForms(u8);

impl TargetForms {
    pub const ENCODED_SLASH: Self = TargetForms(1);
    pub const ENCODED_BACKSLASH: Self = TargetForms(1 << 1);
    pub const ENCODED_PERCENT: Self = TargetForms(1 << 2);
    pub const ENCODED_UNRESERVED: Self = TargetForms(1 << 3);
    pub const DOUBLE_SLASH: Self = TargetForms(1 << 4);
    pub const SEMICOLON: Self = TargetForms(1 << 5);

    /// The words of `allow_target`.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("encoded_slash", Self::ENCODED_SLASH),
        ("encoded_backslash", Self::ENCODED_BACKSLASH),
        ("encoded_percent", Self::ENCODED_PERCENT),
        ("encoded_unreserved", Self::ENCODED_UNRESERVED),
        ("double_slash", Self::DOUBLE_SLASH),
        ("semicolon", Self::SEMICOLON),
    ];

    pub fn from_word(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, form)| *form)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        TargetForms(self.0 | other.0)
    }

    /// Whether all of the others are among these.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl std::fmt::Debug for TargetForms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = Self::WORDS.iter().filter(|(_, form)| self.has(*form));
        f.debug_list().entries(words.map(|(word, _)| word)).finish()
    }
}
