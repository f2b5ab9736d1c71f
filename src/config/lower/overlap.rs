//! Routes that can never be reached because others take all that they would take.

use crate::config::diagnostic::Fault;
use crate::config::plan::MatchPlan;
use crate::config::view::View;

use super::Context;

/// What decides which routes compete: two with the same condition differ by method alone.
type Condition = (
    Option<String>,
    String,
    bool,
    Vec<(String, String)>,
    Vec<(String, String)>,
);

/// A route as far as it matters here.
pub(super) struct Claim<'a> {
    pub(super) view: View<'a>,
    pub(super) name: String,
    condition: Condition,
    /// Empty is any.
    methods: Vec<String>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(view: View<'a>, name: &str, matcher: &MatchPlan) -> Self {
        let mut headers: Vec<_> = matcher
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        headers.sort();
        let mut query = matcher.query.clone();
        query.sort();
        let mut methods: Vec<String> = matcher.methods.iter().map(ToString::to_string).collect();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        Claim {
            view,
            name: name.to_owned(),
            condition: (
                matcher.host.clone(),
                matcher.path.clone(),
                matcher.exact,
                headers,
                query,
            ),
            methods,
        }
    }

    /// Whether this route takes a method; `None` stands for all that nobody names.
    fn takes(&self, method: Option<&String>) -> bool {
        self.methods.is_empty() || method.is_some_and(|method| self.methods.contains(method))
    }

    /// Whether each of its methods goes to one of the earlier routes.
    fn hidden_by(&self, earlier: &[&Claim<'_>]) -> bool {
        let taken = |method: Option<&String>| earlier.iter().any(|other| other.takes(method));
        if self.methods.is_empty() {
            taken(None)
        } else {
            self.methods.iter().all(|method| taken(Some(method)))
        }
    }
}

pub(super) fn check(claims: &[Claim<'_>], context: &mut Context<'_>) {
    for (index, claim) in claims.iter().enumerate() {
        let earlier: Vec<&Claim<'_>> = claims[..index]
            .iter()
            .filter(|other| other.condition == claim.condition)
            .collect();
        if earlier.is_empty() || !claim.hidden_by(&earlier) {
            continue;
        }
        let names: Vec<String> = earlier
            .iter()
            .map(|other| format!("`{}` at line {}", other.name, other.view.at.line))
            .collect();
        let fault = Fault::new(format!(
            "can never be reached: all it matches goes to {}",
            names.join(" and ")
        ));
        context.problem_at(
            claim.view.place("match"),
            fault.hint("give it another path, host, condition or method, or take it out"),
        );
    }
}
