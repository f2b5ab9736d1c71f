//! What only a restart puts in place: sockets, threads, and how the process ends. A reload that changes it says so and
//! applies the rest (`docs/decisions/0062`).

use crate::config::plan::{AdminPlan, Plan};
use crate::observe::metrics::Metrics;

/// Leaves in the new plan what runs, and says which keys the file has otherwise.
pub(super) fn leave(old: &Plan, new: &mut Plan) -> Vec<&'static str> {
    let mut left = Vec::new();
    if new.listeners != old.listeners {
        left.push("listeners");
        new.listeners = old.listeners.clone();
    }
    if new.server != old.server {
        left.push("server");
        new.server = old.server.clone();
    }
    if !same_admin(&new.admin, &old.admin) {
        left.push("admin");
    }
    new.admin = old.admin.clone();
    left
}

/// The file of a token is read again by whoever compares it.
fn same_admin(a: &AdminPlan, b: &AdminPlan) -> bool {
    let same_token = match (&a.token, &b.token) {
        (Some(a), Some(b)) if a.file().is_some() => a.file() == b.file(),
        (a, b) => a == b,
    };
    a.address == b.address && same_token
}

pub(super) fn tell(left: &[&str], metrics: &Metrics) {
    metrics.restart_needed(!left.is_empty());
    for key in left {
        log::warn!(
            "reload: `{key}` in the file is not what runs: it needs a restart and stays as it was; the rest is applied"
        );
    }
}
