//! The whole configuration as one table: every key with its meaning, type and default.
//!
//! The structural check, the readers of the lowering, `portcullis schema` and `docs/config.md` all follow this table;
//! a key is added here or nowhere.

mod issuer;
mod process;
mod route;
mod upstream;

pub(super) use process::ROOT;

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Block {
    /// Heading of its table in the reference, and its name in `$defs`.
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// Keys that people write here though they belong elsewhere, and what to do instead.
    pub(super) misplaced: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
    /// A key of a later version: only its default is accepted.
    pub(super) later: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    /// The value that holds when nothing is written, as it would be written.
    Default(&'static str),
    /// What it means that nothing is written.
    Absent(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Flag,
    Number {
        min: u64,
        max: u64,
    },
    Scalar(Format),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `${env:NAME}` or `${file:PATH}`; nothing below it is ever shown.
    Secret,
    Block(&'static Block),
    List {
        of: &'static Kind,
        min: usize,
    },
    Map {
        key: Format,
        value: &'static Kind,
        min: usize,
    },
    OneOf(&'static [Kind]),
}

/// The shape of a scalar; [`super::format`] has its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Longer than nothing.
    Duration,
    /// Nothing at all is a meaning too.
    DurationOrZero,
    Size,
    SizeOrZero,
    Percent,
    Address,
    Peer,
    Network,
    Name,
    File,
    Url,
    UrlOrFile,
    Issuer,
    Host,
    RoutePath,
    Method,
    Origin,
    HeaderName,
    HeaderValue,
    JsonPointer,
    Scope,
    /// One line that is not empty.
    Word,
    /// Any text.
    Text,
    /// Text in which `${name}` means something else than a reference.
    Template,
}

pub(super) const DURATION: Kind = Kind::Scalar(Format::Duration);
pub(super) const SIZE: Kind = Kind::Scalar(Format::Size);
pub(super) const WORD: Kind = Kind::Scalar(Format::Word);
pub(super) const FILE: Kind = Kind::Scalar(Format::File);
pub(super) const URL: Kind = Kind::Scalar(Format::Url);
pub(super) const WORDS: Kind = Kind::List { of: &WORD, min: 1 };

/// A key that may be left out.
pub(super) const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        doc,
        kind,
        presence: Presence::Absent("none"),
        later: false,
    }
}

impl Key {
    pub(super) const fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    pub(super) const fn default(mut self, text: &'static str) -> Self {
        self.presence = Presence::Default(text);
        self
    }

    /// What leaving it out means, when that is not "none".
    pub(super) const fn absent(mut self, meaning: &'static str) -> Self {
        self.presence = Presence::Absent(meaning);
        self
    }

    #[expect(dead_code, reason = "every key is built; the next one may not be")]
    pub(super) const fn later(mut self) -> Self {
        self.later = true;
        self
    }
}

impl Block {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Every block once, in reading order.
pub(super) fn blocks() -> Vec<&'static Block> {
    fn visit(block: &'static Block, seen: &mut Vec<&'static Block>) {
        if seen.iter().any(|known| known.name == block.name) {
            return;
        }
        seen.push(block);
        for key in block.keys {
            inside(&key.kind, seen);
        }
    }
    fn inside(kind: &'static Kind, seen: &mut Vec<&'static Block>) {
        match kind {
            Kind::Block(block) => visit(block, seen),
            Kind::List { of, .. } => inside(of, seen),
            Kind::Map { value, .. } => inside(value, seen),
            Kind::OneOf(kinds) => kinds.iter().for_each(|kind| inside(kind, seen)),
            Kind::Flag | Kind::Number { .. } | Kind::Scalar(_) | Kind::Word(_) | Kind::Secret => {}
        }
    }
    let mut seen = Vec::new();
    visit(&ROOT, &mut seen);
    seen
}
