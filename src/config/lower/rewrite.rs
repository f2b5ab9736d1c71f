//! Paths that are rewritten by a pattern.

use regex::Regex;

use crate::config::diagnostic::Fault;
use crate::config::format;
use crate::config::plan::{Piece, RewritePlan};
use crate::config::view::{Spot, View};

use super::Context;

pub(super) fn rewrite(view: &View<'_>, context: &mut Context<'_>) -> Option<RewritePlan> {
    let pattern = view.get("pattern");
    let to = view.get("to");
    let pattern = pattern.and_then(|spot| compiled(&spot, context));
    let to = to.and_then(|spot| template(&spot, pattern.as_ref(), context));
    Some(RewritePlan {
        pattern: pattern?,
        to: to?,
    })
}

/// The pattern must match the whole path, whether or not it says so itself.
fn compiled(spot: &Spot<'_>, context: &mut Context<'_>) -> Option<Regex> {
    match Regex::new(&format!(r"\A(?:{})\z", spot.text())) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The library draws the pattern and points into it; its last line says what is wrong.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            let fault = Fault::new(format!("is no regular expression: {why}"));
            context.problem(spot, fault.hint("write such as `/a/(?<rest>.*)`"));
            None
        }
    }
}

fn template(
    spot: &Spot<'_>,
    pattern: Option<&Regex>,
    context: &mut Context<'_>,
) -> Option<Vec<Piece>> {
    let text = spot.text();
    let Some(pieces) = pieces(&text) else {
        let fault = Fault::new("has a `${` without a name and `}`");
        context.problem(spot, fault.hint("write `${name}`"));
        return None;
    };
    let groups: Vec<&str> = pattern
        .map(|pattern| pattern.capture_names().flatten().collect())
        .unwrap_or_default();
    let mut sample = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(text) => sample.push_str(text),
            Piece::Group(name) => {
                sample.push('x');
                if pattern.is_some() && !groups.contains(&name.as_str()) {
                    let fault = Fault::new(format!("the pattern has no group `{name}`"));
                    let hint = match groups[..] {
                        [] => format!("name one: `(?<{name}>.*)`"),
                        _ => format!("it has: {}", groups.join(", ")),
                    };
                    context.problem(spot, fault.hint(hint));
                }
            }
        }
    }
    let bare = match sample.len() {
        0 | 1 => sample.as_str(),
        _ => sample.strip_suffix('/').unwrap_or(&sample),
    };
    if let Err(fault) = format::route_path(bare) {
        context.problem(spot, fault);
    }
    Some(pieces)
}

fn pieces(mut text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    while let Some((before, rest)) = text.split_once("${") {
        let (name, after) = rest.split_once('}')?;
        if name.is_empty() {
            return None;
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Group(name.to_owned()));
        text = after;
    }
    pieces.push(Piece::Text(text.to_owned()));
    Some(pieces)
}
