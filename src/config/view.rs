//! Typed reading of one block: what is written, else the table's default.
//!
//! A value that the structural check refused reads as its default here, so that lowering goes on and finds what else
//! is wrong.

use std::time::Duration;

use super::format;
use super::schema::{Block, Kind, Presence};
use super::tree::{self, Node, Position};
use super::walk::join;

/// A block of the file, or its absence.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    node: Option<&'a Node>,
    block: &'static Block,
    pub(super) path: String,
    pub(super) at: Position,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Spot<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
}

/// An entry of a map whose keys the user chose.
#[derive(Clone, Debug)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    /// Where the name stands.
    pub(super) at: Position,
    pub(super) spot: Spot<'a>,
}

impl<'a> Spot<'a> {
    pub(super) fn at(&self) -> Position {
        self.node.at
    }

    pub(super) fn text(&self) -> String {
        self.node.scalar().unwrap_or_default()
    }

    /// This map as a block.
    pub(super) fn view(&self, block: &'static Block) -> View<'a> {
        View {
            node: self.node.entries().is_some().then_some(self.node),
            block,
            path: self.path.clone(),
            at: self.node.at,
        }
    }
}

impl<'a> View<'a> {
    pub(super) fn root(node: &'a Node, block: &'static Block) -> Self {
        View {
            node: Some(node),
            block,
            path: String::new(),
            at: node.at,
        }
    }

    /// Whether the block is there and a map.
    pub(super) fn present(&self) -> bool {
        self.node.is_some()
    }

    /// What is written under a key.
    pub(super) fn get(&self, key: &str) -> Option<Spot<'a>> {
        debug_assert!(self.block.key(key).is_some(), "{key} is not in the table");
        let node = self.node?.get(key)?;
        Some(Spot {
            node,
            path: join(&self.path, key),
        })
    }

    /// The place of a key that may not be there.
    pub(super) fn place(&self, key: &str) -> (Position, String) {
        let at = self.get(key).map_or(self.at, |spot| spot.at());
        (at, join(&self.path, key))
    }

    fn read<T>(&self, key: &str, reader: impl Fn(&Node) -> Option<T>) -> Option<T> {
        let written = self.get(key).and_then(|spot| reader(spot.node));
        written.or_else(|| match self.block.key(key)?.presence {
            Presence::Default(text) => reader(&tree::parse(text).ok()?),
            Presence::Required | Presence::Absent(_) => None,
        })
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        self.optional_duration(key).unwrap_or_default()
    }

    pub(super) fn percent(&self, key: &str) -> Option<u8> {
        self.read(key, |node| format::percent(&node.scalar()?).ok())
    }

    pub(super) fn optional_duration(&self, key: &str) -> Option<Duration> {
        self.read(key, |node| format::duration(&node.scalar()?).ok())
    }

    pub(super) fn size(&self, key: &str) -> u64 {
        self.optional_size(key).unwrap_or_default()
    }

    pub(super) fn optional_size(&self, key: &str) -> Option<u64> {
        self.read(key, |node| format::size(&node.scalar()?).ok())
    }

    pub(super) fn number<T: TryFrom<i128> + Default>(&self, key: &str) -> T {
        self.optional_number(key).unwrap_or_default()
    }

    pub(super) fn optional_number<T: TryFrom<i128>>(&self, key: &str) -> Option<T> {
        self.read(key, |node| match node.value {
            tree::Value::Number(number) => T::try_from(number).ok(),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.read(key, |node| match node.value {
            tree::Value::Flag(flag) => Some(flag),
            _ => None,
        })
        .unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.read(key, Node::scalar)
    }

    /// The scalars of a list.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.read(key, |node| {
            Some(node.items()?.iter().filter_map(Node::scalar).collect())
        })
        .unwrap_or_default()
    }

    /// The written entries of a list, with their places.
    pub(super) fn items(&self, key: &str) -> Vec<Spot<'a>> {
        let Some(list) = self.get(key) else {
            return Vec::new();
        };
        let items = list.node.items().unwrap_or_default();
        let spot = |(index, node)| Spot {
            node,
            path: format!("{}[{index}]", list.path),
        };
        items.iter().enumerate().map(spot).collect()
    }

    /// The written entries of a map with free keys.
    pub(super) fn named(&self, key: &str) -> Vec<Named<'a>> {
        let Some(map) = self.get(key) else {
            return Vec::new();
        };
        let entries = map.node.entries().unwrap_or_default();
        entries
            .iter()
            .map(|entry| Named {
                name: &entry.key,
                at: entry.at,
                spot: Spot {
                    node: &entry.node,
                    path: join(&map.path, &entry.key),
                },
            })
            .collect()
    }

    /// The block under a key; one that is not written reads as all its defaults.
    pub(super) fn block(&self, key: &str) -> View<'a> {
        let spot = self.get(key);
        let (at, path) = self.place(key);
        View {
            node: spot.map(|spot| spot.node).filter(|n| n.entries().is_some()),
            block: self
                .block
                .key(key)
                .and_then(|key| inner(&key.kind))
                .unwrap_or(self.block),
            path,
            at,
        }
    }

    /// The block that each entry of a list or map under this key is.
    pub(super) fn entry_block(&self, key: &str) -> &'static Block {
        self.block
            .key(key)
            .and_then(|key| inner(&key.kind))
            .unwrap_or(self.block)
    }
}

fn inner(kind: &'static Kind) -> Option<&'static Block> {
    match kind {
        Kind::Block(block) => Some(block),
        Kind::List { of, .. } => inner(of),
        Kind::Map { value, .. } => inner(value),
        Kind::OneOf(kinds) => kinds.iter().find_map(inner),
        Kind::Flag | Kind::Number { .. } | Kind::Scalar(_) | Kind::Word(_) | Kind::Secret => None,
    }
}
