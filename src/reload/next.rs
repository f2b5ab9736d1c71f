//! The generation after this one.

use crate::config::plan::Plan;
use crate::forward::Stripper;
use crate::gateway::Gateway;
use crate::route::RouteTable;

/// Built from the plan and from what the old one has that the plan does not change. Nothing of the old one is touched.
pub(super) fn generation(old: &Gateway, plan: Plan) -> Result<Gateway, String> {
    let metrics = old.metrics.renewed(&plan);
    Ok(Gateway {
        routes: RouteTable::new(&plan),
        verifier: old.verifier.renewed(&plan, metrics.clone())?,
        limiters: old.limiters.renewed(&old.plan, &plan),
        upstreams: old.upstreams.renewed(&plan, &metrics, &old.clock)?,
        stripper: Stripper::new(&plan),
        access_log: old.access_log.clone(),
        drain: old.drain.clone(),
        clock: old.clock.clone(),
        metrics,
        plan,
    })
}
